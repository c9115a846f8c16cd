"""The four phases of training, each as what to read, which step to take and what to validate.

Source: paper, section 3.2: steps 2 (business, discriminator, restorer) and 3 (adversarial).
"""

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
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training import schedule, steps
from tf_mtl_privacy.training.feature_cache import FeatureCache
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.record import RunRecord
from tf_mtl_privacy.training.validation import Validator
from tf_mtl_privacy.types import Batch


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: one of `schedule.PHASES`.
        epochs: the most epochs it may take.
        sampler: which rows each step sees.
        read: (rows `[B]`, mask `[B]`) -> the step's inputs; runs in a background thread.
        step: inputs -> mean losses; the one place where weights change.
        validate: -> the figures that gates and schedule read.
        private: whether each step is a DP-SGD update of the discriminator.
    """

    name: str
    epochs: int
    sampler: ShuffledEpochs
    read: Callable[[np.ndarray, np.ndarray], Any]
    step: Callable[[Any], dict[str, tf.Tensor]]
    validate: Callable[[], dict[str, float]]
    private: bool


class Phases:
    """Builds optimizers and steps for one set of networks, and its phases one at a time.

    Args:
        config: the run's configuration.
        dataset: rows and labels.
        bundle: the networks to train.
        tasks: the business tasks that `bundle` has.
        noise: phase name -> noise multiplier of the discriminator's updates.
        folder: for the feature cache.
        record: the run's record; the adversarial step reads `beta` from it.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        bundle: Bundle,
        tasks: Sequence[str],
        noise: dict[str, float],
        folder: Path,
        record: RunRecord,
    ) -> None:
        self._config, self._dataset, self._bundle = config, dataset, bundle
        self.tasks, self._folder, self._record = tuple(tasks), folder, record
        self.interrupted: Callable[[], bool] = lambda: False
        self._validator = Validator(bundle, dataset, dataset.rows["validation"])
        self._cache: FeatureCache | None = None
        self.optimizers: dict[str, Any] = {}
        self._build_steps(noise)

    def _build_steps(self, noise: dict[str, float]) -> None:
        config, bundle, train = self._config, self._bundle, self._config.train
        optimizers = self.optimizers
        optimizers["business"] = keras.optimizers.Adam(train.learning_rate)
        optimizers["adversarial"] = keras.optimizers.Adam(self._adversarial_rate())
        self._business_step = steps.make_business_step(bundle, optimizers["business"])
        restoration = steps.make_restoration_loss(
            config.loss, PerceptualLoss(perceptual_weights(config))
        )
        update = None
        if bundle.discriminator is not None:
            for phase in ("discriminator", "adversarial"):
                optimizers[f"{phase}_private"] = self._discriminator_optimizer(
                    bundle.discriminator, noise[phase] if noise else 0.0
                )
            pretrain = steps.make_discriminator_update(
                bundle.discriminator, optimizers["discriminator_private"]
            )
            self._discriminator_step = steps.make_discriminator_step(pretrain)
            update = steps.make_discriminator_update(
                bundle.discriminator, optimizers["adversarial_private"]
            )
        if bundle.restorer is not None:
            optimizers["restorer"] = keras.optimizers.Adam(train.restorer_learning_rate)
            self._restorer_step = steps.make_restorer_step(
                bundle.restorer, optimizers["restorer"], restoration
            )
        self._adversarial_step = steps.make_adversarial_step(
            bundle,
            config.loss,
            optimizers["adversarial"],
            update,
            restoration,
            play=train.is_adversarial,
        )

    def _discriminator_optimizer(self, discriminator: keras.Model, noise: float) -> Any:
        config = self._config
        if not config.train.is_private:
            return keras.optimizers.Adam(config.train.discriminator_learning_rate)
        return DPAdam(
            discriminator,
            learning_rate=config.train.discriminator_learning_rate,
            l2_norm_clip=config.privacy.l2_norm_clip,
            noise_multiplier=noise,
            clipping=config.privacy.clipping,
            allow_zero_noise=config.privacy.allow_zero_noise,
        )

    def _adversarial_rate(self) -> Any:
        train = self._config.train
        if train.adversarial_schedule == "constant" or train.adversarial_epochs == 0:
            return train.adversarial_learning_rate
        steps_per_epoch = -(-len(self._dataset.rows["train"]) // train.batch_size)
        return keras.optimizers.schedules.CosineDecay(
            train.adversarial_learning_rate, train.adversarial_epochs * steps_per_epoch
        )

    def build(self, name: str) -> Phase:
        """The phase called `name`; entering the discriminator's or restorer's caches features."""
        builders = {
            "business": self._business,
            "discriminator": self._discriminator,
            "restorer": self._restorer,
            "adversarial": self._adversarial,
        }
        if name == "adversarial":
            self.close()
        return builders[name]()

    def close(self) -> None:
        """Deletes the cached features, also those that a killed process left."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _phase(
        self, name: str, rows: np.ndarray, *, drop_ragged: bool = False, **parts: Any
    ) -> Phase:
        train = self._config.train
        # Each phase shuffles on its own; 8 leaves room for phases to come.
        seed = train.seed * 8 + schedule.PHASES.index(name)
        private = train.is_private and name in ("discriminator", "adversarial")
        return Phase(
            name=name,
            epochs=schedule.phase_epochs(self._config)[name],
            sampler=ShuffledEpochs(rows, train.batch_size, seed, drop_ragged=drop_ragged),
            private=private,
            **parts,
        )

    def _read_batch(self, rows: np.ndarray, mask: np.ndarray) -> Batch:
        batch = self._dataset.batch(rows[mask], capacity=len(rows))
        return steps.as_tensors(
            batch._replace(business={task: batch.business[task] for task in self.tasks})
        )

    def _business(self) -> Phase:
        mixes = any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in self._bundle.encoder.layers
        )
        return self._phase(
            "business",
            self._dataset.rows["train"],
            # Padding would go into the statistics of a BatchNorm that learns here.
            drop_ragged=mixes,
            read=self._read_batch,
            step=self._business_step,
            validate=lambda: self._validator.measure(["business"]),
        )

    def _features(self) -> FeatureCache:
        if self._cache is None:
            rows = np.concatenate([self._dataset.rows["train"], self._dataset.rows["validation"]])
            self._cache = FeatureCache(
                self._folder,
                self._bundle.encoder,
                self._dataset,
                rows,
                interrupted=self.interrupted,
            )
        return self._cache

    def _kept_validation(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        """Validation batches with features from the cache instead of the encoder."""
        cache, rows = self._features(), self._validator.rows
        first, size = len(cache.rows) - len(rows), 256
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            features = cache.read(first + start + np.arange(len(part)))
            padding = [(0, size - len(part))] + [(0, 0)] * (features.ndim - 1)
            batch = self._dataset.batch(part, capacity=size)
            yield batch, tf.convert_to_tensor(np.pad(features, padding))

    def _read_features(self, positions: np.ndarray, mask: np.ndarray) -> tf.Tensor:
        real = self._features().read(positions[mask])
        padded = np.zeros((len(positions), *real.shape[1:]), np.float32)
        padded[mask] = real
        return tf.convert_to_tensor(padded)

    def _discriminator(self) -> Phase:
        cache, train_rows = self._features(), self._dataset.rows["train"]
        labels = self._dataset.labels_of(cache.rows).private
        positions = np.flatnonzero(labels[: len(train_rows)] >= 0)

        def read(rows: np.ndarray, mask: np.ndarray) -> tuple[tf.Tensor, ...]:
            known = np.where(mask, labels[np.where(mask, rows, 0)], -1).astype(np.int32)
            return (
                self._read_features(rows, mask),
                tf.convert_to_tensor(known),
                tf.convert_to_tensor(mask),
            )

        return self._phase(
            "discriminator",
            positions,
            read=read,
            step=lambda inputs: self._discriminator_step(*inputs),
            validate=lambda: self._validator.measure(["discriminator"], self._kept_validation()),
        )

    def _restorer(self) -> Phase:
        cache = self._features()
        positions = np.arange(len(self._dataset.rows["train"]))

        def read(rows: np.ndarray, mask: np.ndarray) -> tuple[tf.Tensor, ...]:
            batch = self._dataset.batch(cache.rows[rows[mask]], capacity=len(rows))
            # The padding of a batch stands at its end, as the sampler's does.
            image, real = tf.convert_to_tensor(batch.image), tf.convert_to_tensor(batch.mask)
            return self._read_features(rows, mask), image, real

        return self._phase(
            "restorer",
            positions,
            read=read,
            step=lambda inputs: self._restorer_step(*inputs),
            validate=lambda: self._validator.measure(["restorer"], self._kept_validation()),
        )

    def _adversarial(self) -> Phase:
        return self._phase(
            "adversarial",
            self._dataset.rows["train"],
            read=self._read_batch,
            step=lambda batch: self._adversarial_step(
                batch, tf.constant(self._record.beta, tf.float32)
            ),
            validate=lambda: self._validator.measure(["business", "discriminator", "restorer"]),
        )


def perceptual_weights(config: Config) -> str:
    """The weights of the perceptual loss as far as there is one: 'none' where nothing uses it."""
    used = config.train.has_discriminator and config.loss.perceptual_weight > 0
    return config.loss.perceptual_weights if used else "none"
