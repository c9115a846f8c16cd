"""The discriminators that the encoder plays against: their updates, batches and new starts.

Source: paper, section 3.2, steps 2 and 3.3, which has one of them and one update a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.discriminator import configured_discriminator
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.training.phase import Batches, KeptFeatures, drawn
from tf_mtl_privacy.training.private_updates import (
    DiscriminatorUpdate,
    PrivatePlan,
    discriminator_updates,
    private_adam,
)
from tf_mtl_privacy.training.steps import (
    UpdateFunction,
    make_discriminator_step,
    make_discriminator_update,
)
from tf_mtl_privacy.training.whitening import set_whitening

Row = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Discriminators:
    """One or several discriminators, each with batches and optimizers of its own.

    Args:
        config: the run's configuration.
        dataset: its validation rows set the whitening of discriminators that have one.
        bundle: has a discriminator, the first one.
        batches: reads training rows.
        features: of the frozen encoder, for pre-training.
        plan: the run's private updates; None where it has none.
        key: where the noise of private updates is drawn from, if it is a test's.

    Attributes:
        members: the discriminators; the first is the bundle's.
        optimizers: of plain updates, by name.
        private_optimizers: of private updates, by name.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        bundle: Bundle,
        batches: Batches,
        features: KeptFeatures,
        plan: PrivatePlan | None,
        key: SecretKey,
    ) -> None:
        self._config, self._game, self._encoder = config, config.game, bundle.encoder
        self._dataset, self._batches, self._features = dataset, batches, features
        self._first: Any = bundle.discriminator
        others = [
            self._fresh(f"discriminator_{m + 1}") for m in range(1, self._game.discriminators)
        ]
        self.members: tuple[keras.Model, ...] = (self._first, *others)
        self.optimizers: dict[str, Any] = {}
        self.private_optimizers: dict[str, Any] = {}
        self._turns = discriminator_updates(self._game)
        self._updates = {turn.name: self._update(turn, plan, key) for turn in self._turns}
        self._before = [turn for turn in self._turns if turn.phase == "discriminator"]
        self._joint = [turn for turn in self._turns if turn.phase == "adversarial"]
        self._steps = {t.name: make_discriminator_step(self._updates[t.name]) for t in self._before}
        self._further = {t.name: self._further_step(t.name) for t in self._joint[1:]}

    @property
    def variables(self) -> dict[str, list[Any]]:
        """Name -> weights of each discriminator but the first."""
        return {f"discriminator_{m + 1}": d.variables for m, d in enumerate(self.members) if m}

    @property
    def first_update(self) -> UpdateFunction:
        """The update on the encoder's own batch."""
        return self._updates[self._joint[0].name]

    def pretraining_sampler(self) -> Any:
        """The first discriminator's batches in pre-training; the others have as many."""
        return self._pretraining_samplers()[self._before[0].name]

    def _pretraining_samplers(self) -> dict[str, Any]:
        labelled = np.flatnonzero(self._batches.private >= 0)
        return {t.name: self._batches.sampler(t.name, labelled) for t in self._before}

    def pretraining_inputs(self) -> Callable[[int, int], dict[str, Row]]:
        """(epoch, step) -> update -> features, labels and mask of a batch of its own."""
        samplers = self._pretraining_samplers()

        def read(positions: np.ndarray, mask: np.ndarray) -> Row:
            labels = self._batches.private[np.where(mask, positions, 0)]
            known = np.where(mask, labels, -1).astype(np.int32)
            features = self._features.read(positions, mask)
            return features, tf.convert_to_tensor(known), tf.convert_to_tensor(mask)

        return lambda epoch, number: {
            name: read(*drawn(sampler, epoch, number)) for name, sampler in samplers.items()
        }

    def before_pretraining(self, epoch: int) -> None:
        """Sets what discriminators see of features, ahead of pre-training's epoch 0."""
        if epoch == 0:
            set_whitening(self.members, self._encoder, self._dataset)

    def pretrain(self, inputs: dict[str, Row]) -> dict[str, tf.Tensor]:
        """One update of each discriminator; the first one's loss."""
        found = [self._steps[name](*row)["discriminator_loss"] for name, row in inputs.items()]
        return {"discriminator_loss": found[0]}

    def further_inputs(self) -> Callable[[int, int], dict[str, Row]]:
        """(epoch, step) -> joint update, all but the first -> pictures, labels and mask."""
        samplers = {turn.name: self._batches.sampler(turn.name) for turn in self._joint[1:]}

        def read(positions: np.ndarray, mask: np.ndarray) -> Row:
            batch = self._batches.batch(positions, mask)
            return batch.image, batch.private, batch.mask

        return lambda epoch, number: {
            name: read(*drawn(sampler, epoch, number)) for name, sampler in samplers.items()
        }

    def update_further(self, inputs: dict[str, Row]) -> None:
        """The joint updates beyond the first, each through one more pass of the encoder."""
        for name, row in inputs.items():
            self._further[name](*row)

    def restart(self, epoch: int) -> None:
        """Gives one discriminator new weights where joint epoch `epoch` (from 0) is to begin so.

        They depend on the run's seed and on `epoch` alone. Private updates that were made stay
        counted: a new start reads no row, and makes nothing undone.
        """
        every = self._game.discriminator_restart_epochs
        if not every or not epoch or epoch % every:
            return
        member = (epoch // every - 1) % len(self.members)
        fresh = self._fresh(f"discriminator_{member + 1}/{epoch}")
        for variable, value in zip(self.members[member].variables, fresh.variables, strict=True):
            variable.assign(value)
        set_whitening([self.members[member]], self._encoder, self._dataset)
        for turn in self._joint:
            if turn.member == member:
                self._forget(turn.name)

    def _forget(self, name: str) -> None:
        if name in self.private_optimizers:
            self.private_optimizers[name].restart()
            return
        for variable in self.optimizers[f"{name}_plain"].variables:
            # Its second variable is the step size.
            if variable.name != "learning_rate":
                variable.assign(keras.ops.zeros_like(variable))

    def _fresh(self, name: str) -> keras.Model:
        return configured_discriminator(
            self._config.model,
            tuple(self._first.input_shape[1:]),
            self._first.output_shape[-1],
            layer_seed(self._config.train.seed, name),
        )

    def _update(
        self, turn: DiscriminatorUpdate, plan: PrivatePlan | None, key: SecretKey
    ) -> UpdateFunction:
        """With a private optimizer, or a plain one, of its own."""
        rate, model = self._config.train.discriminator_learning_rate, self.members[turn.member]
        if plan is None:
            optimizer: Any = keras.optimizers.Adam(rate)
            self.optimizers[f"{turn.name}_plain"] = optimizer
        else:
            update = plan.updates[turn.name]
            optimizer = private_adam(self._config, model, turn.name, update, key, rate)
            self.private_optimizers[turn.name] = optimizer
        return make_discriminator_update(model, optimizer)

    def _further_step(self, name: str) -> Callable[..., tf.Tensor]:
        update = self._updates[name]
        picture = tuple(self._encoder.input_shape[1:])
        signature = [
            tf.TensorSpec([None, *picture], tf.uint8),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.bool),
        ]

        @tf.function(autograph=False, input_signature=signature)
        def step(image: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            return update(self._encoder(to_float(image), training=False), labels, mask)

        return step
