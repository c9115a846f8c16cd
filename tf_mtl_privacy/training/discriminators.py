"""The discriminators that the encoder is trained against: updates, batches, restarts, whitening.

Source: paper, section 3.2, steps 2 and 3.3, which has one discriminator and one update a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.heads import Whitening, configured_discriminator
from tf_mtl_privacy.models.layers import first_layer, layer_seed
from tf_mtl_privacy.removal import draws_apart
from tf_mtl_privacy.removal.base import encode_rows
from tf_mtl_privacy.training.batches import Batches, CachedFeatures, drawn
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.private_updates import (
    DiscriminatorUpdate,
    discriminator_updates,
    private_adam,
)
from tf_mtl_privacy.training.steps import (
    UpdateFunction,
    make_discriminator_step,
    make_discriminator_update,
)

Array = np.ndarray[Any, Any]
Row = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
# Each row has some hundred cells, and there are some ten channels.
_MAX_ROWS = 1_000
# Directions with less variance than this share of the mean one stay smaller than the others.
_MIN_SHARE = 1e-3


class Discriminators:
    """One or several discriminators, each with its own batches and optimizers.

    Args:
        run: its bundle has the first discriminator; its validation rows set the whitening of
            discriminators that have one.
        batches: reads training rows.
        features: of the frozen encoder, for pre-training.

    Attributes:
        members: the discriminators; the first is the bundle's.
        optimizers: of plain updates, by name.
        private_optimizers: of private updates, by name.
    """

    def __init__(self, run: RunContext, batches: Batches, features: CachedFeatures) -> None:
        self._run, self._game, self._encoder = run, run.config.game, run.bundle.encoder
        self._batches, self._features = batches, features
        self._first: Any = run.bundle.discriminator
        others = [
            self._fresh(f"discriminator_{m + 1}") for m in range(1, self._game.discriminators)
        ]
        self.members: tuple[keras.Model, ...] = (self._first, *others)
        self.optimizers: dict[str, Any] = {}
        self.private_optimizers: dict[str, Any] = {}
        planned = discriminator_updates(self._game)
        self._updates = {update.name: self._update(update) for update in planned}
        self._pretraining = [u for u in planned if u.phase == "discriminator"]
        self._joint = [u for u in planned if u.phase == "adversarial"]
        self._steps = {
            u.name: make_discriminator_step(self._updates[u.name]) for u in self._pretraining
        }
        self._further = {u.name: self._further_step(u.name) for u in self._joint[1:]}

    @property
    def variables(self) -> dict[str, list[Any]]:
        """Name -> variables of each discriminator but the first."""
        return {f"discriminator_{m + 1}": d.variables for m, d in enumerate(self.members) if m}

    @property
    def first_update(self) -> UpdateFunction:
        """The update that is made on the encoder's batch."""
        return self._updates[self._joint[0].name]

    def pretraining_sampler(self) -> Any:
        """Samples the first discriminator's pre-training; the others have as many batches."""
        return self._pretraining_samplers()[self._pretraining[0].name]

    def _pretraining_samplers(self) -> dict[str, Any]:
        labelled = np.flatnonzero(self._batches.private >= 0)
        return {u.name: self._batches.sampler(u.name, labelled) for u in self._pretraining}

    def pretraining_inputs(self) -> Callable[[int, int], dict[str, Row]]:
        """Returns (epoch, step) -> update -> features, labels and mask of that update's batch."""
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
        """Sets the discriminators' whitening before the first epoch of pre-training."""
        if epoch == 0:
            set_whitening(self.members, self._encoder, self._run.dataset)

    def pretrain(self, inputs: dict[str, Row]) -> dict[str, tf.Tensor]:
        """Updates each discriminator once; returns the loss of the first."""
        values = [self._steps[name](*row)["discriminator_loss"] for name, row in inputs.items()]
        return {"discriminator_loss": values[0]}

    def further_inputs(self) -> Callable[[int, int], dict[str, Row]]:
        """Returns (epoch, step) -> joint update, all but the first -> images, labels and mask."""
        samplers = {u.name: self._batches.sampler(u.name) for u in self._joint[1:]}

        def read(positions: np.ndarray, mask: np.ndarray) -> Row:
            batch = self._batches.batch(positions, mask)
            return batch.image, batch.private, batch.mask

        return lambda epoch, number: {
            name: read(*drawn(sampler, epoch, number)) for name, sampler in samplers.items()
        }

    def update_further(self, inputs: dict[str, Row]) -> None:
        """Makes the joint updates but the first, each through one more pass of the encoder."""
        for name, row in inputs.items():
            self._further[name](*row)

    def restart(self, epoch: int) -> None:
        """Gives one discriminator new weights if a restart is due at joint epoch `epoch` (from 0).

        They depend only on the run's seed and on `epoch`. Private updates stay counted: a restart
        reads no row and undoes nothing.
        """
        every = self._game.discriminator_restart_epochs
        if not every or not epoch or epoch % every:
            return
        member = (epoch // every - 1) % len(self.members)
        fresh = self._fresh(f"discriminator_{member + 1}/{epoch}")
        for variable, value in zip(self.members[member].variables, fresh.variables, strict=True):
            variable.assign(value)
        set_whitening([self.members[member]], self._encoder, self._run.dataset)
        for update in self._joint:
            if update.member == member:
                self._reset(update.name)

    def _reset(self, name: str) -> None:
        if name in self.private_optimizers:
            self.private_optimizers[name].restart()
            return
        for variable in self.optimizers[f"{name}_plain"].variables:
            # Its second variable is the step size.
            if variable.name != "learning_rate":
                variable.assign(keras.ops.zeros_like(variable))

    def _fresh(self, name: str) -> keras.Model:
        return configured_discriminator(
            self._run.config.model,
            tuple(self._first.input_shape[1:]),
            self._first.output_shape[-1],
            layer_seed(self._run.config.train.seed, name),
        )

    def _update(self, update: DiscriminatorUpdate) -> UpdateFunction:
        """Makes one update, with its own private or plain optimizer."""
        run, name, model = self._run, update.name, self.members[update.member]
        rate = run.config.train.discriminator_learning_rate
        if run.plan is None:
            optimizer: Any = keras.optimizers.Adam(rate)
            self.optimizers[f"{name}_plain"] = optimizer
        else:
            optimizer = private_adam(run.config, model, name, run.plan.updates[name], run.key, rate)
            self.private_optimizers[name] = optimizer
        return make_discriminator_update(model, optimizer)

    def _further_step(self, name: str) -> Callable[..., tf.Tensor]:
        update = self._updates[name]
        shape = tuple(self._encoder.input_shape[1:])
        signature = [
            tf.TensorSpec([None, *shape], tf.uint8),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.bool),
        ]

        @tf.function(autograph=False, input_signature=signature)
        def step(image: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            return update(self._encoder(to_float(image), training=False), labels, mask)

        return step


def fit_whitening(features: Array) -> tuple[Array, Array]:
    """Finds mean and matrix for which `(x - mean) @ matrix` has nearly the identity covariance.

    The matrix is the covariance's inverse square root, the whitening that changes features least
    (Kessy, Lewin and Strimmer 2018, section 3, "ZCA"), so that similar features give similar
    matrices.

    Args:
        features: `[n, h, w, c]` float; every cell of every row counts as one sample.

    Returns:
        `[c]` and `[c, c]`, float32.

    Raises:
        ValueError: fewer than two samples, or values that are not finite.
    """
    cells = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    if len(cells) < 2:
        raise ValueError(f"Expected at least two cells, got {len(cells)}")
    if not np.isfinite(cells).all():
        raise ValueError("Expected finite features")
    mean = cells.mean(axis=0)
    covariance = (cells - mean).T @ (cells - mean) / len(cells)
    variances, directions = np.linalg.eigh(covariance)
    # Constant features stay at 0, whatever they are divided by.
    floor = _MIN_SHARE * variances.mean() or 1.0
    matrix = (directions / np.sqrt(np.maximum(variances, 0.0) + floor)) @ directions.T
    return mean.astype(np.float32), matrix.astype(np.float32)


def set_whitening(
    discriminators: Sequence[keras.Model], encoder: keras.Model, dataset: Dataset
) -> None:
    """Fits the whitening of the discriminators that have one to the encoder's current features.

    Reads validation rows, without their labels: statistics of training rows would carry one
    example into another one's gradient, which per-example clipping does not bound.
    """
    whitenings = (first_layer(model, Whitening) for model in discriminators)
    layers = [layer for layer in whitenings if layer is not None]
    if not layers:
        return
    # A random sample, because the first rows may show few people.
    order = np.random.default_rng(layer_seed(0, "whitening"))
    rows = np.sort(order.permutation(dataset.rows["validation"])[:_MAX_ROWS])
    with draws_apart(encoder):
        features = np.concatenate(list(encode_rows(encoder, dataset, rows)))
    weights = fit_whitening(features)
    for layer in layers:
        layer.set_weights(weights)
