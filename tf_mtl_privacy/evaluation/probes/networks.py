"""Shapes of the networks that attack. They are not private, so BatchNorm is allowed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.models.layers import Layers, layer_seed

_DROPOUT = 0.2
_MOST_CELLS = 32
# Rows of at most so many channels are images or masks; masked pictures have the mask as a fourth.
_IMAGE_CHANNELS = 3
_LEAST_PICTURE = 32


def is_image(shape: Sequence[int]) -> bool:
    """Returns whether rows of this shape are images or masks rather than feature maps.

    Args:
        shape: `(h, w, c)`; with four channels it is a masked picture from 32 pixels a side on.
    """
    masked = shape[-1] == _IMAGE_CHANNELS + 1 and min(shape[:2]) >= _LEAST_PICTURE
    return shape[-1] <= _IMAGE_CHANNELS or masked


def dense_network(columns: int, classes: int, *, units: int, seed: int) -> keras.Model:
    """Rows `[B, columns]` -> logits `[B, classes]`, both float32, over two hidden layers."""
    layers = Layers(seed, "probe_mlp")
    inputs = x = keras.Input((columns,))
    for number in (1, 2):
        x = layers.dense(units, f"hidden{number}", activation="relu")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = _dropout(0.5, seed, f"dropout{number}")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def local_network(
    shape: tuple[int, int, int], classes: int, *, width: int, seed: int
) -> keras.Model:
    """Rows `[B, h, w, c]` -> logits `[B, classes]`, both float32, by what is anywhere in them.

    Two layers of small patterns at full resolution and the maximum of each over all places. It has
    few weights, so it learns a small detail (an iris) from rows on which `placed_network` only
    learns the rows by heart.

    Args:
        shape: (h, w, c); four cells become the channels of one until the shorter side has at most
            32 of them: nothing is lost.
        classes: K.
        width: channels of the first layer at full resolution; the next has twice as many.
        seed: of the weights.
    """
    layers = Layers(seed, "probe_local")
    inputs = keras.Input(shape)
    x = keras.layers.GlobalMaxPooling2D()(_patterns(layers, inputs, width))
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def soft_network(
    shape: tuple[int, int, int], classes: int, *, width: int, seed: int
) -> keras.Model:
    """As `local_network`, but with a soft maximum over all places.

    Each channel is averaged with the softmax of itself over places as weights, so that every place
    learns and not only the largest: it reads the same detail in about half the time. Images and
    masks get a sharper one beside it: in the first nearly all places of a small detail count, and
    some starts never leave chance by it alone.
    """
    layers = Layers(seed, "probe_soft")
    inputs = keras.Input(shape)
    x = _patterns(layers, inputs, width)
    pooled = _soft_maximum(x, 1.0)
    if is_image(shape):
        pooled = keras.layers.Concatenate()([pooled, _soft_maximum(x, 4.0)])
    return keras.Model(inputs, layers.dense(classes, "logits")(pooled))


def placed_network(
    shape: tuple[int, int, int], classes: int, *, width: int, seed: int
) -> keras.Model:
    """Rows `[B, h, w, c]` -> logits `[B, classes]`, both float32, by what is where in them.

    Two branches end it: all places, flattened, and the maximum over places.

    Args:
        shape: (h, w, c); rows of 32 cells a side and more are halved at once.
        classes: K.
        width: sizes the channels.
        seed: of weights and dropout.
    """
    layers = Layers(seed, "probe_placed")
    inputs = x = keras.Input(shape)
    cells = min(shape[:2])
    if cells >= _MOST_CELLS:
        x = _block(layers, x, width, kernel=5, strides=2, number="0")
    x = _block(layers, x, 2 * width, kernel=3, strides=1, number="1")
    x = _block(layers, x, 3 * width, kernel=3, strides=2 if cells > 4 else 1, number="2")
    if cells >= _MOST_CELLS:
        x = _block(layers, x, 4 * width, kernel=3, strides=2, number="3")
    flat = _dropout(_DROPOUT, seed, "dropout1")(keras.layers.Flatten()(x))
    placed = layers.dense(160, "placed", activation="relu")(flat)
    x = keras.layers.Concatenate()([placed, keras.layers.GlobalMaxPooling2D()(x)])
    x = _dropout(_DROPOUT, seed, "dropout2")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def with_batch_norm(model: keras.Model, seed: int) -> keras.Model:
    """A network of the same shape, with new weights, and BatchNorm for every GroupNorm.

    Args:
        model: a discriminator.
        seed: of the new weights.
    """

    def rebuilt(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.GroupNormalization):
            return keras.layers.BatchNormalization(momentum=0.9, name=layer.name)
        config = _reseeded(copy.deepcopy(layer.get_config()), f"{layer.name}/{seed}")
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=rebuilt)


def with_same_weights(model: keras.Model) -> keras.Model:
    """A copy that can be trained while the original stays as it is."""
    twin = keras.models.clone_model(model)
    twin.set_weights([np.array(values) for values in model.get_weights()])
    twin.trainable = True
    return twin


class _FusedNorm(keras.layers.Layer):
    """BatchNorm of maps `[B, h, w, c]` in one operation: Keras' own is several, and half as fast.

    Statistics move by a tenth in each step of training.
    """

    def build(self, shape: Any) -> None:
        def weight(name: str, start: str, trainable: bool = True) -> Any:
            return self.add_weight(
                name=name, shape=(shape[-1],), initializer=start, trainable=trainable
            )

        self._gamma, self._beta = weight("gamma", "ones"), weight("beta", "zeros")
        self._mean = weight("moving_mean", "zeros", trainable=False)
        self._variance = weight("moving_variance", "ones", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        norm, scales = tf.compat.v1.nn.fused_batch_norm, (self._gamma.value, self._beta.value)
        kept = (self._mean, self._variance)
        if not training:
            return norm(x, *scales, *(k.value for k in kept), epsilon=1e-3, is_training=False)[0]
        normed, *found = norm(x, *scales, epsilon=1e-3, is_training=True)
        for variable, new in zip(kept, found, strict=True):
            variable.assign(0.9 * variable + 0.1 * new)
        return normed


class _CellsAsChannels(keras.layers.Layer):
    """`[B, h, w, c]` -> `[B, h / 2, w / 2, 4 c]`; an odd side gets a row or column of zeros."""

    def call(self, x: Any) -> Any:
        odd = [[0, 0], *([0, side % 2] for side in x.shape[1:3]), [0, 0]]
        return tf.nn.space_to_depth(tf.pad(x, odd), 2)


def _patterns(layers: Layers, x: Any, width: int) -> Any:
    """Two layers of small patterns, `[B, h, w, 2 * width]`; the smaller of h and w at most 32."""
    while min(x.shape[1:3]) > _MOST_CELLS:
        x = _CellsAsChannels()(x)
    x = _block(layers, x, width, kernel=3, strides=1, number="1")
    return _block(layers, x, 2 * width, kernel=3, strides=1, number="2")


def _soft_maximum(x: Any, sharpness: float) -> Any:
    """`[B, h, w, c]` -> `[B, c]`: the mean over places, weighted by the softmax of sharpness x."""
    weights = keras.layers.Softmax(axis=(1, 2), name=f"places{sharpness:g}")(sharpness * x)
    return keras.ops.sum(x * weights, axis=(1, 2))


def _block(layers: Layers, x: Any, channels: int, *, kernel: int, strides: int, number: str) -> Any:
    """Convolution, BatchNorm, ReLU."""
    name = f"conv{number}"
    x = layers.conv(channels, kernel, name, strides=strides, use_bias=False)(x)
    x = _FusedNorm(name=f"norm{number}")(x)
    return keras.layers.ReLU(name=f"relu{number}")(x)


def _dropout(rate: float, seed: int, name: str) -> keras.layers.Layer:
    return keras.layers.Dropout(rate, seed=layer_seed(seed, name), name=name)


def _reseeded(config: Any, name: str) -> Any:
    """The configuration of a layer with other seeds: with the old ones it had the old weights."""
    if isinstance(config, dict):
        return {
            key: layer_seed(0, name) if key == "seed" else _reseeded(value, f"{name}/{key}")
            for key, value in config.items()
        }
    return config
