"""The four phases of `--dp_scope=all`: a frozen public backbone, everything else by DP-SGD.

Source: paper, section 3.2, for the phases; docs/accounting.md for what is different.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.backbone import split_encoder
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.removal.mask import has_mask, switch_mask
from tf_mtl_privacy.training import private_steps, schedule
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.mask_phase import RegionPart
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.phase import Batches, KeptFeatures, Phase, adversarial_rate, drawn
from tf_mtl_privacy.training.private_updates import PrivatePlan, private_adam
from tf_mtl_privacy.training.steps import make_discriminator_update, make_restoration_loss
from tf_mtl_privacy.training.validation import Validator
from tf_mtl_privacy.types import Batch

Inputs = tuple[tf.Tensor, Batch]


class PrivatePhases:
    """Builds private optimizers and steps, and the phases one at a time; see `Phases`.

    The backbone's features are computed once for all phases: no phase changes them.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        bundle: Bundle,
        tasks: Sequence[str],
        plan: PrivatePlan,
        key: SecretKey,
        folder: Path,
        record: TrainingState,
    ) -> None:
        if bundle.discriminator is None or bundle.restorer is None:
            raise ValueError("Expected a discriminator and a restorer")
        self._config, self._plan, self._record = config, plan, record
        self._business = bundle.business
        self._discriminator, self._restorer = bundle.discriminator, bundle.restorer
        self.tasks = tuple(tasks)
        self.interrupted: Callable[[], bool] = lambda: False
        backbone, self._adapter = split_encoder(bundle.encoder)
        self._encode = tf.function(
            lambda kept: self._adapter(kept, training=False), autograph=False
        )
        self._validator = Validator(bundle, dataset, dataset.rows["validation"])
        self._batches = Batches(config, dataset, tasks, plan)
        self._kept = KeptFeatures(folder, backbone, dataset, lambda: self.interrupted())
        self._encoder = bundle.encoder
        self.regions = (
            RegionPart(config, dataset, bundle.encoder) if has_mask(bundle.encoder) else None
        )
        self.optimizers: dict[str, Any] = self.regions.optimizers if self.regions else {}
        self._rate = adversarial_rate(config, len(self._batches.rows))
        self.private_optimizers = self._make_optimizers(key)
        self._steps = self._make_steps()

    @property
    def further_networks(self) -> dict[str, list[Any]]:
        """Name -> variables of networks that are trained beside the bundle's."""
        return {"region_reader": self.regions.variables} if self.regions else {}

    def _make_optimizers(self, key: SecretKey) -> dict[str, Any]:
        train = self._config.train
        encoder = private_steps.trained_encoder(
            self._adapter, self._business, self._config.loss.alpha
        )
        kinds = {
            "business": (encoder, train.learning_rate),
            "discriminator": (self._discriminator, train.discriminator_learning_rate),
            "restorer": (self._restorer, train.restorer_learning_rate),
            "adversarial_encoder": (encoder, train.adversarial_learning_rate),
            "adversarial_discriminator": (self._discriminator, train.discriminator_learning_rate),
            "adversarial_restorer": (self._restorer, train.adversarial_learning_rate),
        }
        return {
            name: private_adam(self._config, model, name, self._plan.updates[name], key, rate)
            for name, (model, rate) in kinds.items()
        }

    def _make_steps(self) -> dict[str, Callable[[tf.Tensor, Batch], Any]]:
        config, optimizers, adapter = self._config, self.private_optimizers, self._adapter
        restoration = make_restoration_loss(
            config.loss, PerceptualLoss(config.effective_perceptual_weights)
        )
        encoder = private_steps.make_private_encoder_step(
            self._discriminator,
            self._restorer,
            config.loss,
            optimizers["adversarial_encoder"],
            restoration,
            play=config.train.is_adversarial,
        )

        def discriminator(name: str) -> private_steps.Step:
            update = make_discriminator_update(self._discriminator, optimizers[name])
            return private_steps.make_private_discriminator_step(adapter, update)

        def restorer(name: str) -> private_steps.Step:
            return private_steps.make_private_restorer_step(adapter, optimizers[name], restoration)

        return {
            "business": private_steps.make_private_business_step(optimizers["business"]),
            "discriminator": discriminator("discriminator"),
            "restorer": restorer("restorer"),
            "adversarial_encoder": lambda kept, batch: encoder(
                kept, batch, tf.constant(self._record.beta, tf.float32)
            ),
            "adversarial_discriminator": discriminator("adversarial_discriminator"),
            "adversarial_restorer": restorer("adversarial_restorer"),
        }

    def build(self, name: str) -> Phase:
        """The phase called `name`: in each step one update of each kind that it has."""
        switch_mask(self._encoder, on=name != "regions")
        if name == "regions":
            assert self.regions is not None
            return self.regions.phase()
        updates = self._plan.of_phase(name)
        samplers = {update: self._plan.updates[update].sampler for update in updates}

        (steps_per_epoch,) = {sampler.steps_per_epoch for sampler in samplers.values()}

        def inputs(epoch: int, number: int) -> dict[str, Inputs]:
            return {
                update: self._read(*drawn(sampler, epoch, number))
                for update, sampler in samplers.items()
            }

        def step(read: dict[str, Inputs]) -> dict[str, tf.Tensor]:
            metrics: dict[str, tf.Tensor] = {}
            for update, (kept, batch) in read.items():
                self._set_rate(update)
                metrics |= self._steps[update](kept, batch)
            return metrics

        heads = [name] if name != "adversarial" else ["business", "discriminator", "restorer"]
        return Phase(
            name,
            schedule.phase_epochs(self._config)[name],
            steps_per_epoch,
            inputs,
            step,
            lambda: self._validator.measure(heads, self._validation()),
        )

    def _set_rate(self, update: str) -> None:
        """Follows the joint phase's schedule."""
        if update in ("adversarial_encoder", "adversarial_restorer") and callable(self._rate):
            optimizer = self.private_optimizers[update]
            optimizer.learning_rate = float(self._rate(optimizer.iterations))

    def _read(self, positions: np.ndarray, mask: np.ndarray) -> Inputs:
        return self._kept.read(positions, mask), self._batches.batch(positions, mask)

    def _validation(self) -> Any:
        for batch, kept in self._kept.validation():
            yield batch, self._encode(kept)

    def close(self) -> None:
        """Deletes the kept features, also those that a killed process left."""
        self._kept.close()
