"""Features of a frozen encoder, computed once and read from disk in every epoch after that."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.models.noise import draws_apart
from tf_mtl_privacy.progress import Progress


class FeatureCache:
    """Memory-mapped float32 features `[rows, h, w, c]` of some rows of a data set.

    The features say as much about people as their pictures do: the folder is readable by the
    owner only and is deleted by `close`. Of an encoder that adds noise one draw per row is kept.

    Args:
        folder: made here; must not be shared by two caches.
        encoder: run in inference mode.
        dataset: where the images are.
        rows: `[N]` int64 store rows, whose features are kept in this order.
        batch_size: rows per encoder call.
        interrupted: asked between encoder calls whether to stop.

    Raises:
        RunError: there is no room for the features.
        KeyboardInterrupt: `interrupted` said so.
    """

    def __init__(
        self,
        folder: Path,
        encoder: keras.Model,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int = 256,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = private_dir(folder)
        self.rows = rows
        shape = (len(rows), *encoder.output_shape[1:])
        path = self._folder / "features.f32"
        _reserve(path, 4 * math.prod(shape))
        self._features = np.memmap(path, np.float32, mode="r+", shape=shape)
        label = "features of the frozen encoder"
        with draws_apart(encoder), Progress(len(rows), label, "rows") as progress:
            start = 0
            for features in encode_rows(encoder, dataset, rows, batch_size):
                self._features[start : start + len(features)] = features
                start += len(features)
                progress.update(len(features))
                if interrupted():
                    self.close()
                    raise KeyboardInterrupt

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Features `[n, h, w, c]` float32 at positions `[n]` (numbers within `rows`)."""
        return np.asarray(self._features[positions])

    def close(self) -> None:
        """Deletes the features."""
        del self._features
        shutil.rmtree(self._folder, ignore_errors=True)


def _reserve(path: Path, size: int) -> None:
    """Takes the space at once: a full disk would otherwise kill the process while it writes."""
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(
            f"cannot keep {size / 2**30:.1f} GiB of features in {path.parent}: {error.strerror}; "
            "free some space, or put --run_dir on another disk"
        ) from error


def encode_rows(
    encoder: keras.Model, dataset: Dataset, rows: np.ndarray, batch_size: int = 256
) -> Iterator[np.ndarray]:
    """Yields the encoder's features of `rows`, `[<= batch_size, h, w, c]` float32, in order.

    Every call of the encoder sees as many rows (the last one is padded), so it is compiled once.
    """
    encode = tf.function(lambda image: encoder(to_float(image), training=False), autograph=False)
    batch_size = min(batch_size, max(len(rows), 1))
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        batch = dataset.batch(part, capacity=batch_size)
        yield encode(tf.convert_to_tensor(batch.image)).numpy()[: len(part)]
