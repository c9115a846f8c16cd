"""A noisy bottleneck of fixed power: what the encoder gives away is a noisy copy of its features.

Source: Cover and Thomas, "Elements of Information Theory", chapter 9: a Gaussian channel whose
input has a bounded power passes a bounded number of bits; see `capacity_bits`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

# Part of the adapter: a backbone that was trained without noise still fits.
POWER, NOISE = "adapter_power", "adapter_noise"
# Below the square root of this a feature vector counts as nothing.
_EPSILON = 1e-5


class FeatureNoise(keras.layers.Layer):
    """Adds Gaussian noise to every number, independently, in training and in inference.

    Its one weight, `draws` `[2]` int64, says where the noise comes from. At [0, 0], as in every
    weights file, each call draws anew from TensorFlow's generator, which the system seeds when the
    process starts: the weights do not say the noise. (That seed has some 32 bits on a CPU; who has
    the weights and an answer for a picture of their own could search for it.) Otherwise the noise
    follows from [seed, count] and count grows by 1, so that a training that was stopped goes on
    with the same noise; not for private training, see training/fit.py.

    Args:
        deviation: standard deviation of the noise, >= 0.
    """

    def __init__(self, deviation: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deviation = deviation

    def build(self, input_shape: Any) -> None:
        """See the class."""
        self.draws = self.add_weight(
            name="draws", shape=(2,), dtype="int64", initializer="zeros", trainable=False
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        given = tf.convert_to_tensor(self.draws)
        counts = tf.reduce_any(given != 0)
        anew = tf.raw_ops.NonDeterministicInts(shape=tf.constant([2], tf.int64), dtype=tf.int64)
        noise = tf.random.stateless_normal(
            tf.shape(inputs), tf.where(counts, given, anew), dtype=inputs.dtype
        )
        self.draws.assign(given + tf.where(counts, tf.constant([0, 1], tf.int64), 0))
        return inputs + self.deviation * noise

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "deviation": self.deviation}


def noisy(features: Any, deviation: float) -> Any:
    """Features `[B, h, w, c]`, scaled to mean 0 and variance 1 over each image, plus noise.

    Nothing that is learned follows the scaling, so the encoder cannot outgrow the noise.

    Args:
        features: a Keras tensor, float32.
        deviation: standard deviation of the noise, > 0.
    """
    x = keras.layers.GroupNormalization(
        groups=1, center=False, scale=False, epsilon=_EPSILON, name=POWER
    )(features)
    return FeatureNoise(deviation, name=NOISE)(x)


def has_noise(encoder: keras.Model) -> bool:
    """Whether an encoder adds noise to its features."""
    return _noise(encoder) is not None


def noiseless(encoder: keras.Model) -> keras.Model:
    """The same encoder up to the noise, with shared weights; the encoder itself where it has none.

    Nobody is given these features; attackers read them to see what the noise alone holds back.
    """
    layer = _noise(encoder)
    if layer is None:
        return encoder
    return keras.Model(encoder.inputs[0], layer.input, name="noiseless_encoder")


def count_draws(encoder: keras.Model, seed: int) -> None:
    """From now on the noise follows from `seed` (1 or more) and a count that starts at 0."""
    layer = _noise(encoder)
    if layer is not None:
        layer.draws.assign([seed, 0])


def draw_anew(encoder: keras.Model) -> None:
    """From now on every call draws its noise from the system, as what is released does."""
    layer = _noise(encoder)
    if layer is not None:
        layer.draws.assign([0, 0])


@contextlib.contextmanager
def draws_apart(encoder: keras.Model) -> Iterator[None]:
    """Calls in here count apart from all others, from the start, where draws are counted at all.

    For features that are computed once and kept: a run that goes on computes them again, and must
    find the same noise in them and, afterwards, in everything else.
    """
    layer = _noise(encoder)
    before = None if layer is None else layer.draws.numpy()
    if layer is None or before is None or not before.any():
        yield
        return
    layer.draws.assign([-before[0], 1])
    try:
        yield
    finally:
        layer.draws.assign(before)


def _noise(encoder: keras.Model) -> FeatureNoise | None:
    layers = getattr(encoder, "layers", [])
    return next((layer for layer in layers if isinstance(layer, FeatureNoise)), None)
