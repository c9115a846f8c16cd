"""What a phase of training is, and what all phases read: batches, kept features, labels."""

from __future__ import annotations

import dataclasses
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
from tf_mtl_privacy.training import schedule, steps
from tf_mtl_privacy.training.feature_cache import FeatureCache
from tf_mtl_privacy.training.private_updates import PrivatePlan, Sampler
from tf_mtl_privacy.training.shuffled_labels import shuffled_labels
from tf_mtl_privacy.training.turns import order_seed
from tf_mtl_privacy.types import Batch

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
