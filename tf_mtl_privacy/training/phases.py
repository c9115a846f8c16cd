"""The phases of training: which batches to read, which step to take, what to validate.

`Phases` is for runs in which at most the discriminator is trained privately. `PrivatePhases` is for
`--dp_scope=all`: a frozen public backbone, everything else by DP-SGD. Phases of removal methods run
in both.

Source: paper, section 3.2: steps 2 (task classifier, discriminator, restorer) and 3 (joint);
docs/accounting.md for what differs with `--dp_scope=all`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.models.backbone import split_encoder
from tf_mtl_privacy.removal import Fitting, methods
from tf_mtl_privacy.training import schedule, steps
from tf_mtl_privacy.training.batches import Batches, CachedFeatures, adversarial_rate, drawn
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.discriminators import Discriminators
from tf_mtl_privacy.training.inference import Validator
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.private_updates import Sampler, private_adam
from tf_mtl_privacy.types import Batch, Phase

Inputs = tuple[tf.Tensor, Batch]


def make_phases(run: RunContext) -> BasePhases:
    """Makes the phases that fit the run's `--dp_scope`."""
    return PrivatePhases(run) if run.all_private else Phases(run)


def with_refits(phase: Phase, fittings: Sequence[Fitting]) -> Phase:
    """Returns the joint phase with removal methods refitted while the encoder changes.

    They are fitted before the first step and after the last step of every epoch, ahead of the
    validation: so before each epoch, and once at the end.
    """

    def refit() -> None:
        for fitting in fittings:
            fitting.refit()

    def before_epoch(epoch: int) -> None:
        phase.before_epoch(epoch)
        # Every other epoch begins with the encoder that was validated at the end of the last one.
        if epoch == 0:
            refit()

    def validate() -> dict[str, float]:
        refit()
        return phase.validate()

    return dataclasses.replace(phase, before_epoch=before_epoch, validate=validate)


class BasePhases:
    """Builds one phase at a time; base class of both kinds of runs.

    Args:
        run: the run; the joint phase's steps read `beta` from its state.
        frozen: the network whose features are cached.

    Attributes:
        optimizers: of plain updates, by name.
        private_optimizers: of private updates, by name.
        networks: name -> variables of networks that are trained beside the bundle's.
    """

    def __init__(self, run: RunContext, frozen: keras.Model) -> None:
        config = run.config
        self._run, self._bundle = run, run.bundle
        self._validator = Validator(run.bundle, run.dataset, run.dataset.rows["validation"])
        self._batches = Batches(config, run.dataset, run.tasks, run.plan)
        self._features = CachedFeatures(run, frozen)
        self._epochs = schedule.phase_epochs(config)
        self._fittings: dict[str, Fitting] = {
            method.name: method.fitting(config, run.dataset, run.bundle.encoder)
            for method in methods(config)
        }
        self.optimizers: dict[str, Any] = {}
        self.private_optimizers: dict[str, Any] = {}
        self.networks: dict[str, list[Any]] = {}
        for fitting in self._fittings.values():
            self.optimizers |= fitting.optimizers
            self.networks |= fitting.networks
        self._restoration = steps.make_restoration_loss(
            config.loss, PerceptualLoss(config.effective_perceptual_weights)
        )

    def build(self, name: str) -> Phase:
        """Builds the phase called `name`, and brings removal methods into its state."""
        order, owner = list(self._epochs), None
        for method in methods(self._run.config):
            own = method.phases(self._run.config.removal)
            fitted = all(order.index(name) > order.index(phase) for phase in own)
            method.enter(self._bundle.encoder, fitted=fitted)
            owner = method.name if name in own else owner
        if owner is not None:
            return self._fittings[owner].phase(name, self._epochs[name])
        phase = self._build(name)
        return phase if name != "adversarial" else with_refits(phase, [*self._fittings.values()])

    def _build(self, name: str) -> Phase:
        raise NotImplementedError

    def close(self) -> None:
        """Deletes the cached features, including those that a killed process left."""
        self._features.close()


class Phases(BasePhases):
    """Phases in which the encoder is trained without noise, and at most D privately.

    Args:
        run: the run.
    """

    def __init__(self, run: RunContext) -> None:
        super().__init__(run, run.bundle.encoder)
        config, bundle, train = run.config, run.bundle, run.config.train
        self._discriminators: Discriminators | None = None
        if bundle.discriminator is not None:
            self._discriminators = Discriminators(run, self._batches, self._features)
            self.optimizers |= self._discriminators.optimizers
            self.private_optimizers = self._discriminators.private_optimizers
            self.networks |= self._discriminators.variables
        optimizers, game = self.optimizers, self._discriminators
        optimizers["business"] = keras.optimizers.Adam(train.learning_rate)
        optimizers["adversarial"] = keras.optimizers.Adam(
            adversarial_rate(config, len(self._batches.rows))
        )
        self._business_step = steps.make_business_step(bundle, optimizers["business"])
        if bundle.restorer is not None:
            optimizers["restorer"] = keras.optimizers.Adam(train.restorer_learning_rate)
            self._restorer_step = steps.make_restorer_step(
                bundle.restorer, optimizers["restorer"], self._restoration
            )
        self._adversarial_step = steps.make_adversarial_step(
            bundle,
            config.loss,
            optimizers["adversarial"],
            game.first_update if game else None,
            self._restoration,
            play=train.is_adversarial and config.loss.plays,
            others=game.members[1:] if game else (),
        )

    def _build(self, name: str) -> Phase:
        if name == "adversarial":
            self.close()
        builders = {
            "business": self._business,
            "discriminator": self._discriminator,
            "restorer": self._restorer,
            "adversarial": self._adversarial,
        }
        return builders[name]()

    def _business(self) -> Phase:
        # Padding would go into the statistics of a BatchNorm that learns here.
        mixes = any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in self._bundle.encoder.layers
        )
        return self._phase(
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
            self._epochs["discriminator"],
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

        return self._phase(
            "restorer",
            self._batches.sampler("restorer"),
            read,
            lambda inputs: self._restorer_step(*inputs),
            lambda: self._validator.measure(["restorer"], self._features.validation()),
        )

    def _phase(
        self,
        name: str,
        sampler: Sampler,
        read: Callable[[np.ndarray, np.ndarray], Any],
        step: Any,
        validate: Any,
    ) -> Phase:
        """Makes a phase whose steps each read one batch of one sampler."""
        return Phase(
            name,
            self._epochs[name],
            sampler.steps_per_epoch,
            lambda epoch, number: read(*drawn(sampler, epoch, number)),
            step,
            validate,
        )

    def _adversarial(self) -> Phase:
        # One batch for everything: the encoder's pass serves the discriminator's update, too.
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
            self._epochs["adversarial"],
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
        state, warmup = self._run.state, self._run.config.game.beta_warmup_epochs
        finished = state.epoch + state.step / steps_per_epoch
        return tf.constant(schedule.warmed_beta(state.beta, finished, warmup), tf.float32)


class PrivatePhases(BasePhases):
    """Phases of `--dp_scope=all`; each step makes one update of each kind that its phase has.

    The backbone's features are computed once for all phases, because no phase changes them.

    Args:
        run: has a plan of private updates, a discriminator and a restorer.
    """

    def __init__(self, run: RunContext) -> None:
        if run.bundle.discriminator is None or run.bundle.restorer is None or run.plan is None:
            raise ValueError("Expected a plan, a discriminator and a restorer")
        backbone, self._adapter = split_encoder(run.bundle.encoder)
        super().__init__(run, backbone)
        self._plan = run.plan
        self._discriminator, self._restorer = run.bundle.discriminator, run.bundle.restorer
        self._encode = tf.function(
            lambda features: self._adapter(features, training=False), autograph=False
        )
        self._rate = adversarial_rate(run.config, len(self._batches.rows))
        self.private_optimizers = self._make_optimizers()
        self._steps = self._make_steps()

    def _make_optimizers(self) -> dict[str, Any]:
        run, train = self._run, self._run.config.train
        encoder = steps.trained_encoder(self._adapter, self._bundle.business, run.config.loss.alpha)
        kinds = {
            "business": (encoder, train.learning_rate),
            "discriminator": (self._discriminator, train.discriminator_learning_rate),
            "restorer": (self._restorer, train.restorer_learning_rate),
            "adversarial_encoder": (encoder, train.adversarial_learning_rate),
            "adversarial_discriminator": (self._discriminator, train.discriminator_learning_rate),
            "adversarial_restorer": (self._restorer, train.adversarial_learning_rate),
        }
        return {
            name: private_adam(run.config, model, name, self._plan.updates[name], run.key, rate)
            for name, (model, rate) in kinds.items()
        }

    def _make_steps(self) -> dict[str, Callable[[tf.Tensor, Batch], Any]]:
        config, optimizers, adapter = self._run.config, self.private_optimizers, self._adapter
        encoder = steps.make_private_encoder_step(
            self._discriminator,
            self._restorer,
            config.loss,
            optimizers["adversarial_encoder"],
            self._restoration,
            play=config.train.is_adversarial,
        )

        def discriminator(name: str) -> steps.PrivateStep:
            update = steps.make_discriminator_update(self._discriminator, optimizers[name])
            return steps.make_private_discriminator_step(adapter, update)

        def restorer(name: str) -> steps.PrivateStep:
            return steps.make_private_restorer_step(adapter, optimizers[name], self._restoration)

        return {
            "business": steps.make_private_business_step(optimizers["business"]),
            "discriminator": discriminator("discriminator"),
            "restorer": restorer("restorer"),
            "adversarial_encoder": lambda features, batch: encoder(
                features, batch, tf.constant(self._run.state.beta, tf.float32)
            ),
            "adversarial_discriminator": discriminator("adversarial_discriminator"),
            "adversarial_restorer": restorer("adversarial_restorer"),
        }

    def _build(self, name: str) -> Phase:
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
            for update, (features, batch) in read.items():
                self._set_rate(update)
                metrics |= self._steps[update](features, batch)
            return metrics

        heads = [name] if name != "adversarial" else ["business", "discriminator", "restorer"]
        return Phase(
            name,
            self._epochs[name],
            steps_per_epoch,
            inputs,
            step,
            lambda: self._validator.measure(heads, self._validation()),
        )

    def _set_rate(self, update: str) -> None:
        """Sets the learning rate by the joint phase's schedule."""
        if update in ("adversarial_encoder", "adversarial_restorer") and callable(self._rate):
            optimizer = self.private_optimizers[update]
            optimizer.learning_rate = float(self._rate(optimizer.iterations))

    def _read(self, positions: np.ndarray, mask: np.ndarray) -> Inputs:
        return self._features.read(positions, mask), self._batches.batch(positions, mask)

    def _validation(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        for batch, features in self._features.validation():
            yield batch, self._encode(features)
