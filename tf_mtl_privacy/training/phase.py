"""What a phase of training is, and what all phases read: batches, kept features, labels.

Private labels that say nothing of anybody, to see what a discriminator contributes.

Features of a frozen encoder, computed once and read from disk in every epoch after that.
"""

from __future__ import annotations

import dataclasses
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
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sampling import ShuffledEpochs, without_spare_places
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.removal.noise import draws_apart
from tf_mtl_privacy.training import schedule, steps
from tf_mtl_privacy.training.private_updates import PrivatePlan, Sampler, order_seed
from tf_mtl_privacy.types import Batch


def shuffled_labels(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """A random label for each row, drawn once for the whole run.

    Of the true labels only whether there is one is looked at, so that the same rows have one.

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


Read = Callable[[np.ndarray, np.ndarray], Any]
_VALIDATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: one of `schedule.PHASES`.
        epochs: the most epochs it may take.
        steps_per_epoch: updates in one of them.
        inputs: (epoch, step), both counted from 0 -> the step's inputs; runs in a background
            thread.
        step: inputs -> mean losses; the one place where weights change.
        validate: -> the figures that gates and schedule read.
        before_epoch: called with an epoch's number, from 0, before its first step and again where
            that step was lost with a kill: the same call has to do the same.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    inputs: Callable[[int, int], Any]
    step: Callable[[Any], dict[str, tf.Tensor]]
    validate: Callable[[], dict[str, float]]
    before_epoch: Callable[[int], None] = lambda epoch: None


class Batches:
    """Reads the training rows, which all samplers name by their position among them.

    Args:
        config: the run's configuration.
        dataset: rows and labels.
        tasks: the business tasks whose labels are read.
        plan: the run's private updates, None where it has none.
    """

    def __init__(
        self, config: Config, dataset: Dataset, tasks: Sequence[str], plan: PrivatePlan | None
    ) -> None:
        self._config, self._dataset, self._tasks, self._plan = config, dataset, tuple(tasks), plan
        self.rows = dataset.rows["train"]
        # `[N]` int32, what discriminators learn: the private label, -1 where it is unknown.
        self.private = dataset.labels("train").private
        self._shuffled = config.game.discriminator_labels == "shuffled"
        if self._shuffled:
            classes = len(dataset.private_classes)
            self.private = shuffled_labels(self.private, classes, config.train.seed)

    def sampler(
        self, name: str, positions: np.ndarray | None = None, *, drop_ragged: bool = False
    ) -> Sampler:
        """The batches of a private update, or shuffled epochs where `name` is none.

        Args:
            name: of the update, or of the phase that makes a plain one.
            positions: which rows a plain update is on; all by default.
            drop_ragged: see `ShuffledEpochs`; plain updates only.
        """
        if self._plan is not None and name in self._plan.updates:
            return self._plan.updates[name].sampler
        train = self._config.train
        where = np.arange(len(self.rows)) if positions is None else positions
        seed = order_seed(train.seed, name)
        return ShuffledEpochs(where, train.batch_size, seed, drop_ragged=drop_ragged)

    def batch(self, positions: np.ndarray, mask: np.ndarray) -> Batch:
        """Images and labels at `positions` `[B]`, padding (mask False) last."""
        batch = self._dataset.batch(self.rows[positions[mask]], capacity=len(positions))
        if self._shuffled:
            private = np.where(mask, self.private[np.where(mask, positions, 0)], -1)
            batch = batch._replace(private=private.astype(np.int32))
        return steps.as_tensors(
            batch._replace(business={task: batch.business[task] for task in self._tasks})
        )


def phase(
    config: Config, name: str, sampler: Sampler, read: Read, step: Any, validate: Any
) -> Phase:
    """A phase whose steps each read one batch of one sampler."""
    return Phase(
        name,
        schedule.phase_epochs(config)[name],
        sampler.steps_per_epoch,
        lambda epoch, number: read(*drawn(sampler, epoch, number)),
        step,
        validate,
    )


def drawn(sampler: Sampler, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch with hardly more places than rows.

    A Poisson batch has room for the largest batch that is to be expected at all, near twice the
    mean. Those places are never computed on: the batch is cut to the next multiple of 16.
    """
    rows, mask = sampler.batch(epoch, step)
    if isinstance(sampler, ShuffledEpochs):
        return rows, mask
    return without_spare_places(rows, mask)


class KeptFeatures:
    """What a frozen network makes of training and validation rows, computed when first asked for.

    Args:
        folder: for the cache; deleted by `close`.
        network: images in [0, 1] -> features.
        dataset: rows and labels.
        interrupted: asked now and then whether to stop.
    """

    def __init__(
        self,
        folder: Path,
        network: keras.Model,
        dataset: Dataset,
        interrupted: Callable[[], bool],
    ) -> None:
        self._folder, self._network, self._dataset = folder, network, dataset
        self._interrupted = interrupted
        self._cache: FeatureCache | None = None

    def read(self, positions: np.ndarray, mask: np.ndarray) -> tf.Tensor:
        """Features `[B, ...]` at positions `[B]`, training rows first; 0 where masked."""
        real = self._opened().read(positions[mask])
        padded = np.zeros((len(positions), *real.shape[1:]), np.float32)
        padded[mask] = real
        return tf.convert_to_tensor(padded)

    def validation(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        """Validation batches of fixed size with their kept features."""
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
                self._folder, self._network, self._dataset, rows, interrupted=self._interrupted
            )
        return self._cache

    def close(self) -> None:
        """Deletes the features, also those that a killed process left."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        shutil.rmtree(self._folder, ignore_errors=True)


def adversarial_rate(config: Config, rows: int) -> Any:
    """The joint phase's step size: a number, or a schedule of Keras over its planned steps."""
    train = config.train
    if train.adversarial_schedule == "constant" or train.adversarial_epochs == 0:
        return train.adversarial_learning_rate
    steps = train.adversarial_epochs * -(-rows // train.batch_size)
    return keras.optimizers.schedules.CosineDecay(train.adversarial_learning_rate, steps)
