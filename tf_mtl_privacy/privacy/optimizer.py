"""Adam with per-example clipping and Gaussian noise, for the variables of a Keras 3 model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.tfp import dp_keras_adam


class DPAdam:
    """tensorflow-privacy's `DPKerasAdamOptimizer` on a Keras 3 model, with its traps closed.

    The library's own check that gradients came through the private path stays true for ever once
    it was true; here the only way to move a variable is `minimize`, which computes the private
    gradient itself. A loss that is not one value per example is refused, because the library
    would take it for a batch of one and clip nothing of worth.

    Args:
        variables: the Keras 3 variables to train.
        learning_rate: Adam's step size, > 0.
        l2_norm_clip: bound on each example's gradient norm, > 0.
        noise_multiplier: noise standard deviation over `l2_norm_clip`, > 0.
        allow_zero_noise: accept `noise_multiplier=0`, which is not private.

    Raises:
        UsageError: a clip or noise that gives no privacy.
    """

    def __init__(
        self,
        variables: Sequence[Any],
        *,
        learning_rate: float,
        l2_norm_clip: float,
        noise_multiplier: float,
        allow_zero_noise: bool = False,
    ) -> None:
        if not l2_norm_clip > 0:
            raise UsageError(f"--l2_norm_clip={l2_norm_clip}: expected > 0")
        if noise_multiplier < 0 or (noise_multiplier == 0 and not allow_zero_noise):
            raise UsageError(
                f"--noise_multiplier={noise_multiplier}: expected > 0 (zero noise is not private "
                "and needs allow_zero_noise)"
            )
        # The legacy optimizer keeps its slots by tf.Variable, not by Keras 3 variable.
        self._raw = [variable.value for variable in variables]
        self._optimizer = dp_keras_adam(l2_norm_clip, noise_multiplier, learning_rate)
        self._optimizer._create_all_weights(self._raw)

    @property
    def variables(self) -> list[tf.Variable]:
        """Step counter and moments, in a fixed order: what a checkpoint must hold."""
        return list(self._optimizer.variables())

    def minimize(self, losses: Callable[[], tf.Tensor]) -> tf.Tensor:
        """One private update.

        Args:
            losses: computes the per-example losses, `[B]` float32; a row that must not count has
                loss zero whatever the variables are. Called once, under a tape.

        Returns:
            The losses, `[B]`, from before the update.

        Raises:
            UsageError: the losses are not one value per example.
        """
        with tf.GradientTape() as tape:
            values = losses()
        if values.shape.rank != 1:
            raise UsageError(
                f"per-example losses of shape {values.shape}: expected [batch], one value per "
                "example; a reduced loss cannot be clipped per example"
            )
        gradients = self._optimizer._compute_gradients(values, self._raw, tape=tape)
        self._optimizer.apply_gradients(gradients)
        return values
