"""The four phases of training, each as what to read, which step to take and what to validate.

Source: paper, section 3.2: steps 2 (business, discriminator, restorer) and 3 (adversarial). Only
the discriminator may be private here; see private_phases.py for `--dp_scope=all`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.training import steps
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.phase import (
    Batches,
    KeptFeatures,
    Phase,
    adversarial_rate,
    perceptual_weights,
    phase,
)
from tf_mtl_privacy.training.private_optimizers import private_adam
from tf_mtl_privacy.training.private_updates import PrivatePlan
from tf_mtl_privacy.training.record import RunRecord
from tf_mtl_privacy.training.validation import Validator


class Phases:
    """Builds optimizers and steps for one set of networks, and its phases one at a time.

    Args:
        config: the run's configuration.
        dataset: rows and labels.
        bundle: the networks to train.
        tasks: the business tasks that `bundle` has.
        plan: the run's private updates; None where it has none.
        key: where the noise of private updates is drawn from, if it is a test's.
        folder: for the feature cache.
        record: the run's record; the adversarial step reads `beta` from it.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        bundle: Bundle,
        tasks: Sequence[str],
        plan: PrivatePlan | None,
        key: SecretKey,
        folder: Path,
        record: RunRecord,
    ) -> None:
        self._config, self._dataset, self._bundle = config, dataset, bundle
        self.tasks, self._record = tuple(tasks), record
        self.interrupted: Callable[[], bool] = lambda: False
        self._validator = Validator(bundle, dataset, dataset.rows["validation"])
        self._batches = Batches(config, dataset, tasks, plan)
        self._features = KeptFeatures(folder, bundle.encoder, dataset, lambda: self.interrupted())
        self.optimizers: dict[str, Any] = {}
        self.private_optimizers: dict[str, Any] = {}
        if plan is not None and bundle.discriminator is not None:
            self.private_optimizers = {
                name: private_adam(
                    config,
                    bundle.discriminator,
                    name,
                    update,
                    key,
                    config.train.discriminator_learning_rate,
                )
                for name, update in plan.updates.items()
            }
        self._build_steps()

    def _build_steps(self) -> None:
        config, bundle, train = self._config, self._bundle, self._config.train
        optimizers = self.optimizers
        optimizers["business"] = keras.optimizers.Adam(train.learning_rate)
        optimizers["adversarial"] = keras.optimizers.Adam(
            adversarial_rate(config, len(self._batches.rows))
        )
        self._business_step = steps.make_business_step(bundle, optimizers["business"])
        restoration = steps.make_restoration_loss(
            config.loss, PerceptualLoss(perceptual_weights(config))
        )
        update = None
        if bundle.discriminator is not None:
            pretrain = self._discriminator_update("discriminator")
            self._discriminator_step = steps.make_discriminator_step(pretrain)
            update = self._discriminator_update("adversarial_discriminator")
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

    def _discriminator_update(self, name: str) -> steps.DiscriminatorUpdate:
        """With the private optimizer of that name, or with one of its own."""
        optimizer = self.private_optimizers.get(name)
        if optimizer is None:
            optimizer = keras.optimizers.Adam(self._config.train.discriminator_learning_rate)
            self.optimizers[f"{name}_plain"] = optimizer
        return steps.make_discriminator_update(self._bundle.discriminator, optimizer)

    def build(self, name: str) -> Phase:
        """The phase called `name`."""
        if name == "adversarial":
            self.close()
        builders = {
            "business": self._business,
            "discriminator": self._discriminator,
            "restorer": self._restorer,
            "adversarial": self._adversarial,
        }
        return builders[name]()

    def close(self) -> None:
        """Deletes the cached features, also those that a killed process left."""
        self._features.close()

    def _business(self) -> Phase:
        # Padding would go into the statistics of a BatchNorm that learns here.
        mixes = any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in self._bundle.encoder.layers
        )
        return phase(
            self._config,
            "business",
            self._batches.sampler("business", drop_ragged=mixes),
            self._batches.batch,
            self._business_step,
            lambda: self._validator.measure(["business"]),
        )

    def _discriminator(self) -> Phase:
        labels = self._dataset.labels("train").private

        def read(positions: np.ndarray, mask: np.ndarray) -> tuple[tf.Tensor, ...]:
            known = np.where(mask, labels[np.where(mask, positions, 0)], -1).astype(np.int32)
            features = self._features.read(positions, mask)
            return features, tf.convert_to_tensor(known), tf.convert_to_tensor(mask)

        return phase(
            self._config,
            "discriminator",
            self._batches.sampler("discriminator", np.flatnonzero(labels >= 0)),
            read,
            lambda inputs: self._discriminator_step(*inputs),
            lambda: self._validator.measure(["discriminator"], self._features.validation()),
        )

    def _restorer(self) -> Phase:
        def read(positions: np.ndarray, mask: np.ndarray) -> tuple[tf.Tensor, ...]:
            batch = self._batches.batch(positions, mask)
            return self._features.read(positions, mask), batch.image, batch.mask

        return phase(
            self._config,
            "restorer",
            self._batches.sampler("restorer"),
            read,
            lambda inputs: self._restorer_step(*inputs),
            lambda: self._validator.measure(["restorer"], self._features.validation()),
        )

    def _adversarial(self) -> Phase:
        # One batch for everything: the encoder's pass serves the discriminator's update too.
        name = "adversarial_discriminator" if self.private_optimizers else "adversarial"
        return phase(
            self._config,
            "adversarial",
            self._batches.sampler(name),
            self._batches.batch,
            lambda batch: self._adversarial_step(batch, tf.constant(self._record.beta, tf.float32)),
            lambda: self._validator.measure(["business", "discriminator", "restorer"]),
        )
