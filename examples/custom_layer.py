"""Register a rule of ghost clipping for a layer of your own: `python examples/custom_layer.py`."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.privacy import DPSGD, register_layer_rule
from tf_mtl_privacy.privacy.clipping.contribution import Contribution, instantiated


class Scale(keras.layers.Layer):
    """Multiplies `[B, n]` by a trainable `[n]`."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the weight."""
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Multiplies."""
        return x * self.scale


@register_layer_rule(Scale)
def scale_gradients(layer: Scale, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Returns one gradient a row, from the layer's input and the loss's gradient at its output."""
    return [instantiated(layer.scale, x * delta)]


def update(clipping: str) -> np.ndarray:
    """Returns one update of the weights, without noise."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), Scale(), keras.layers.Dense(1)])
    quiet = {"noise_multiplier": 0.0, "allow_zero_noise": True}
    optimizer = DPSGD(model, learning_rate=1.0, l2_norm_clip=0.5, clipping=clipping, **quiet)
    rows = np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)
    before = model.get_weights()
    optimizer.minimize(rows, lambda outputs: (outputs[:, 0] - 1.0) ** 2)
    pairs = zip(before, model.get_weights(), strict=True)
    return np.concatenate([np.ravel(new - old) for old, new in pairs])


# Without noise, ghost clipping must give the update of the backend that needs no rules.
one, other = update("ghost"), update("vectorized")
print(f"largest update: {np.abs(one).max():.2f}")
print(f"largest difference between ghost and vectorized: {np.abs(one - other).max():.1e}")
