"""Noise: the encoder releases a noisy copy of features of fixed power.

Source: Cover and Thomas, "Elements of Information Theory", chapter 9: a Gaussian channel whose
input has bounded power carries a bounded number of bits; see `capacity_bits`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.removal.base import RemovalMethod

# Named as part of the adapter: a backbone that was trained without noise still fits.
POWER, NOISE = "adapter_power", "adapter_noise"
# A feature vector whose variance is far below this counts as zero.
_EPSILON = 1e-5


class NoiseMethod(RemovalMethod):
    """Gaussian noise on the features, in training and in what is released; reads no label."""

    name = "noise"

    def is_on(self, removal: RemovalConfig) -> bool:
        """See `RemovalMethod`."""
        return removal.feature_noise > 0

    def record(self, removal: RemovalConfig, *, on: bool) -> Mapping[str, Any]:
        """Returns the noise's standard deviation; 0 without noise."""
        return {"feature_noise": removal.feature_noise if on else 0.0}

    def on_features(self, features: Any, removal: RemovalConfig, private_classes: int) -> Any:
        """See `noisy`."""
        return noisy(features, removal.feature_noise)

    def start(self, encoder: keras.Model, seed: int) -> None:
        """See `count_draws`."""
        count_draws(encoder, seed)

    def release(self, encoder: keras.Model) -> None:
        """See `draw_anew`."""
        draw_anew(encoder)

    def draws_apart(self, encoder: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Counts draws from the start of a sequence of their own, if draws are counted at all."""
        return _draws_apart(encoder)

    def deterministic(self, encoder: keras.Model) -> keras.Model:
        """See `noiseless`."""
        return noiseless(encoder)


class FeatureNoise(keras.layers.Layer):
    """Adds Gaussian noise to every number, independently, in training and in inference.

    Its one weight, `draws` `[2]` int64, selects the source of the noise. At [0, 0], as in every
    weights file, each call draws anew from TensorFlow's generator, which the system seeds when the
    process starts, so that the weights do not reveal the noise. (That seed has about 32 bits on a
    CPU; an attacker with the weights and the answer for a known image could search for it.)
    Otherwise the noise follows from [seed, count], and count grows by 1 with each call, so that a
    resumed training continues with the same noise. Private training does not use this; see
    training/fit.py.

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
        """Returns the constructor's arguments."""
        return {**super().get_config(), "deviation": self.deviation}


def noisy(features: Any, deviation: float) -> Any:
    """Scales each image's features `[B, h, w, c]` to mean 0 and variance 1, then adds noise.

    No learned scale follows, so the encoder cannot outgrow the noise.

    Args:
        features: a Keras tensor, float32.
        deviation: standard deviation of the noise, > 0.
    """
    x = keras.layers.GroupNormalization(
        groups=1, center=False, scale=False, epsilon=_EPSILON, name=POWER
    )(features)
    return FeatureNoise(deviation, name=NOISE)(x)


def has_noise(encoder: keras.Model) -> bool:
    """Returns True if an encoder adds noise to its features."""
    return _noise(encoder) is not None


def noiseless(encoder: keras.Model) -> keras.Model:
    """Returns the encoder up to its noise, with shared weights; itself if it has none.

    These features are never released. Attackers read them to show how much the noise alone hides.
    """
    layer = _noise(encoder)
    if layer is None:
        return encoder
    return keras.Model(encoder.inputs[0], layer.input, name="noiseless_encoder")


def count_draws(encoder: keras.Model, seed: int) -> None:
    """Makes the noise follow from `seed` (1 or more) and a count that starts at 0."""
    layer = _noise(encoder)
    if layer is not None:
        layer.draws.assign([seed, 0])


def draw_anew(encoder: keras.Model) -> None:
    """Makes every call draw its noise from the system, as a released encoder does."""
    layer = _noise(encoder)
    if layer is not None:
        layer.draws.assign([0, 0])


@contextlib.contextmanager
def _draws_apart(encoder: keras.Model) -> Iterator[None]:
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
