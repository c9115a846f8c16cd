"""Training batches, cached features of frozen networks, and the labels that are read."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.sampling import ShuffledEpochs, without_spare_places
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.removal import draws_apart
from tf_mtl_privacy.removal.base import encode_rows
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.private_updates import PrivatePlan, Sampler, order_seed
from tf_mtl_privacy.types import Batch

_VALIDATION_BATCH = 256


class Batches:
    """Reads the training rows; samplers number them by their position among the training rows.

    Args:
        config: the run's configuration.
        dataset: rows and labels.
        tasks: the tasks whose labels are read.
        plan: the run's private updates, None if it has none.
    """

    def __init__(
        self, config: Config, dataset: Dataset, tasks: Sequence[str], plan: PrivatePlan | None
    ) -> None:
        self._config, self._dataset, self._tasks, self._plan = config, dataset, tuple(tasks), plan
        self.rows = dataset.rows["train"]
        # `[N]` int32, the label that discriminators learn: the private label, -1 where unknown.
        self.private = dataset.labels("train").private
        self._shuffled = config.game.discriminator_labels == "shuffled"
        if self._shuffled:
            classes = len(dataset.private_classes)
            self.private = shuffled_labels(self.private, classes, config.train.seed)

    def sampler(
        self, name: str, positions: np.ndarray | None = None, *, drop_ragged: bool = False
    ) -> Sampler:
        """Returns the sampler of a private update, or shuffled epochs for any other name.

        Args:
            name: name of the private update, or of the phase that makes a plain one.
            positions: the rows of a plain update; all by default.
            drop_ragged: see `ShuffledEpochs`; plain updates only.
        """
        if self._plan is not None and name in self._plan.updates:
            return self._plan.updates[name].sampler
        train = self._config.train
        where = np.arange(len(self.rows)) if positions is None else positions
        seed = order_seed(train.seed, name)
        return ShuffledEpochs(where, train.batch_size, seed, drop_ragged=drop_ragged)

    def batch(self, positions: np.ndarray, mask: np.ndarray) -> Batch:
        """Reads images and labels at `positions` `[B]`, padding (mask False) last."""
        batch = self._dataset.batch(self.rows[positions[mask]], capacity=len(positions))
        if self._shuffled:
            private = np.where(mask, self.private[np.where(mask, positions, 0)], -1)
            batch = batch._replace(private=private.astype(np.int32))
        return as_tensors(
            batch._replace(business={task: batch.business[task] for task in self._tasks})
        )


def drawn(sampler: Sampler, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a batch -> positions `[B]` and mask `[B]`, with little padding.

    A Poisson batch has room for the largest batch to be expected, about twice the mean. It is cut
    to the next multiple of 16, so that nothing is computed on the rest.
    """
    rows, mask = sampler.batch(epoch, step)
    if isinstance(sampler, ShuffledEpochs):
        return rows, mask
    return without_spare_places(rows, mask)


def shuffled_labels(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Draws a random label for each row that has one, once for the whole run.

    Args:
        labels: `[N]` int32, the class or -1.
        classes: K > 0; each is equally likely.
        seed: of the run, >= 0.

    Returns:
        `[N]` int32 in [0, K), -1 where `labels` is.
    """
    generator = np.random.default_rng(order_seed(seed, "shuffled labels"))
    drawn = generator.integers(0, classes, len(labels))
    return np.where(np.asarray(labels) >= 0, drawn, -1).astype(np.int32)


def as_tensors(batch: Batch) -> Batch:
    """Converts a NumPy batch to tensors, so that a step is traced once for all batches."""
    return Batch(
        image=tf.convert_to_tensor(batch.image),
        business={name: tf.convert_to_tensor(labels) for name, labels in batch.business.items()},
        private=tf.convert_to_tensor(batch.private),
        index=tf.convert_to_tensor(batch.index),
        mask=tf.convert_to_tensor(batch.mask),
    )


class CachedFeatures:
    """Features of a frozen network for training and validation rows, computed on first use.

    Args:
        run: its folder holds the cache until `close`.
        network: images in [0, 1] -> features.
    """

    def __init__(self, run: RunContext, network: keras.Model) -> None:
        self._folder, self._network, self._run = run.folder / "features", network, run
        self._dataset = run.dataset
        self._cache: FeatureCache | None = None

    def read(self, positions: np.ndarray, mask: np.ndarray) -> tf.Tensor:
        """Returns features `[B, ...]` at positions `[B]`, training rows first; 0 where masked."""
        real = self._opened().read(positions[mask])
        padded = np.zeros((len(positions), *real.shape[1:]), np.float32)
        padded[mask] = real
        return tf.convert_to_tensor(padded)

    def validation(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        """Yields validation batches of fixed size with their features."""
        rows = self._dataset.rows["validation"]
        size = min(_VALIDATION_BATCH, len(rows))
        first = len(self._dataset.rows["train"])
        for start in range(0, len(rows), _VALIDATION_BATCH):
            batch = self._dataset.batch(rows[start : start + size], capacity=size)
            yield batch, self.read(first + start + np.arange(size), batch.mask)

    def _opened(self) -> FeatureCache:
        if self._cache is None:
            rows = np.concatenate([self._dataset.rows["train"], self._dataset.rows["validation"]])
            self._cache = FeatureCache(
                self._folder,
                self._network,
                self._dataset,
                rows,
                interrupted=self._run.interrupted,
            )
        return self._cache

    def close(self) -> None:
        """Deletes the features, including those that a killed process left."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        shutil.rmtree(self._folder, ignore_errors=True)


class FeatureCache:
    """Memory-mapped float32 features `[rows, h, w, c]` of some rows of a data set.

    Features reveal as much about people as their images do: only the owner can read the folder, and
    `close` deletes it. For an encoder that adds noise the cache holds one draw per row.

    Args:
        folder: made here; two caches must not share it.
        encoder: run in inference mode.
        dataset: has the images.
        rows: `[N]` int64 store rows; the features are in this order.
        batch_size: rows per encoder call.
        interrupted: called between encoder calls; the cache stops if it returns True.

    Raises:
        RunError: the disk has no room for the features.
        KeyboardInterrupt: interrupted.
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
        """Returns features `[n, h, w, c]` float32 at positions `[n]` (indices into `rows`)."""
        return np.asarray(self._features[positions])

    def close(self) -> None:
        """Deletes the features."""
        del self._features
        shutil.rmtree(self._folder, ignore_errors=True)


def _reserve(path: Path, size: int) -> None:
    """Allocates the space at once: a full disk would otherwise kill the process while it writes."""
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(
            f"cannot cache {size / 2**30:.1f} GiB of features in {path.parent}: {error.strerror}; "
            "free some space, or put --run_dir on another disk"
        ) from error


def adversarial_rate(config: Config, rows: int) -> Any:
    """Returns the joint phase's learning rate: a number, or a Keras schedule over its steps."""
    train = config.train
    if train.adversarial_schedule == "constant" or train.adversarial_epochs == 0:
        return train.adversarial_learning_rate
    steps = train.adversarial_epochs * -(-rows // train.batch_size)
    return keras.optimizers.schedules.CosineDecay(train.adversarial_learning_rate, steps)
