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
from tf_mtl_privacy.removal.mask import has_mask, switch_mask
from tf_mtl_privacy.training import schedule, steps
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.discriminators import Discriminators
from tf_mtl_privacy.training.erasure_phase import with_erasure
from tf_mtl_privacy.training.mask_phase import RegionPart
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.phase import (
    Batches,
    KeptFeatures,
    Phase,
    adversarial_rate,
    drawn,
    phase,
)
from tf_mtl_privacy.training.private_updates import PrivatePlan
from tf_mtl_privacy.training.validation import Validator
from tf_mtl_privacy.types import Batch


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
        record: TrainingState,
    ) -> None:
        self._config, self._dataset, self._bundle = config, dataset, bundle
        self.tasks, self._record = tuple(tasks), record
        self.interrupted: Callable[[], bool] = lambda: False
        self._validator = Validator(bundle, dataset, dataset.rows["validation"])
        self._batches = Batches(config, dataset, tasks, plan)
        self._features = KeptFeatures(folder, bundle.encoder, dataset, lambda: self.interrupted())
        self.regions = (
            RegionPart(config, dataset, bundle.encoder) if has_mask(bundle.encoder) else None
        )
        self.optimizers: dict[str, Any] = self.regions.optimizers if self.regions else {}
        self.private_optimizers: dict[str, Any] = {}
        self._discriminators: Discriminators | None = None
        if bundle.discriminator is not None:
            game = Discriminators(config, dataset, bundle, self._batches, self._features, plan, key)
            self._discriminators = game
            self.optimizers |= game.optimizers
            self.private_optimizers = game.private_optimizers
        self._build_steps()

    @property
    def further_networks(self) -> dict[str, list[Any]]:
        """Name -> variables of networks that are trained beside the bundle's."""
        further = {"region_reader": self.regions.variables} if self.regions else {}
        return further | (self._discriminators.variables if self._discriminators else {})

    def _build_steps(self) -> None:
        config, bundle, train = self._config, self._bundle, self._config.train
        optimizers = self.optimizers
        optimizers["business"] = keras.optimizers.Adam(train.learning_rate)
        optimizers["adversarial"] = keras.optimizers.Adam(
            adversarial_rate(config, len(self._batches.rows))
        )
        self._business_step = steps.make_business_step(bundle, optimizers["business"])
        restoration = steps.make_restoration_loss(
            config.loss, PerceptualLoss(config.effective_perceptual_weights)
        )
        game = self._discriminators
        if bundle.restorer is not None:
            optimizers["restorer"] = keras.optimizers.Adam(train.restorer_learning_rate)
            self._restorer_step = steps.make_restorer_step(
                bundle.restorer, optimizers["restorer"], restoration
            )
        self._adversarial_step = steps.make_adversarial_step(
            bundle,
            config.loss,
            optimizers["adversarial"],
            game.first_update if game else None,
            restoration,
            play=train.is_adversarial and config.loss.plays,
            others=game.members[1:] if game else (),
        )

    def build(self, name: str) -> Phase:
        """The phase called `name`."""
        if name == "adversarial":
            self.close()
        switch_mask(self._bundle.encoder, on=name not in ("business", "regions"))
        if name == "regions":
            assert self.regions is not None
            return self.regions.phase()
        builders = {
            "business": self._business,
            "discriminator": self._discriminator,
            "restorer": self._restorer,
            "adversarial": self._adversarial,
        }
        built = builders[name]()
        if name == "adversarial":
            built = with_erasure(built, self._config, self._dataset, self._bundle)
        return built

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
        game = self._discriminators
        assert game is not None
        return Phase(
            "discriminator",
            schedule.phase_epochs(self._config)["discriminator"],
            game.pretraining_sampler().steps_per_epoch,
            game.pretraining_inputs(),
            game.pretrain,
            lambda: self._validator.measure(["discriminator"], self._features.validation()),
            game.before_pretraining,
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
        sampler, game = self._batches.sampler(name), self._discriminators
        further = game.further_inputs() if game else lambda epoch, number: {}

        def step(inputs: tuple[Batch, dict[str, Any]]) -> dict[str, tf.Tensor]:
            batch, others = inputs
            if game is not None:
                game.update_further(others)
            return self._adversarial_step(batch, self._beta(sampler.steps_per_epoch))

        return Phase(
            "adversarial",
            schedule.phase_epochs(self._config)["adversarial"],
            sampler.steps_per_epoch,
            lambda epoch, number: (
                self._batches.batch(*drawn(sampler, epoch, number)),
                further(epoch, number),
            ),
            step,
            lambda: self._validator.measure(["business", "discriminator", "restorer"]),
            game.restart if game else lambda epoch: None,
        )

    def _beta(self, steps_per_epoch: int) -> tf.Tensor:
        record, warmup = self._record, self._config.game.beta_warmup_epochs
        finished = record.epoch + record.step / steps_per_epoch
        return tf.constant(schedule.warmed_beta(record.beta, finished, warmup), tf.float32)
