"""Architectures of the attackers' networks. They are not private, so BatchNorm is allowed.

The first word given to `Layers` names a random stream; it stays as it is so that published figures
can be reproduced.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.models.layers import Layers, layer_seed

_DROPOUT = 0.2
_MAX_CELLS = 32
# Images and masks have at most so many channels; masked pictures have the mask as a fourth.
_IMAGE_CHANNELS = 3
_MIN_PICTURE = 32


def is_image(shape: Sequence[int]) -> bool:
    """Returns True if rows of this shape are images or masks rather than feature maps.

    Args:
        shape: `(h, w, c)`; with four channels, masked pictures have at least 32 pixels a side.
    """
    masked = shape[-1] == _IMAGE_CHANNELS + 1 and min(shape[:2]) >= _MIN_PICTURE
    return shape[-1] <= _IMAGE_CHANNELS or masked


def dense_network(columns: int, classes: int, *, units: int, seed: int) -> keras.Model:
    """Builds a network of two hidden layers: `[B, columns]` -> logits `[B, classes]` float32."""
    layers = Layers(seed, "probe_mlp")
    inputs = x = keras.Input((columns,))
    for number in (1, 2):
        x = layers.dense(units, f"hidden{number}", activation="relu")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = _dropout(0.5, seed, f"dropout{number}")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def patch_cnn(shape: tuple[int, int, int], classes: int, *, width: int, seed: int) -> keras.Model:
    """Builds a network that detects small patterns anywhere in a map.

    Two convolutions at full resolution and the maximum of each channel over all places. With few
    weights it learns a small detail (an iris) from rows that `positional_cnn` would overfit.

    Args:
        shape: (h, w, c) of rows `[B, h, w, c]` float32; groups of four cells become channels,
            without any loss, until the shorter side has at most 32 cells.
        classes: K.
        width: channels of the first layer at full resolution; the next has twice as many.
        seed: of the weights.
    """
    layers = Layers(seed, "probe_local")
    inputs = keras.Input(shape)
    x = keras.layers.GlobalMaxPooling2D()(_patterns(layers, inputs, width))
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def softmax_pool_cnn(
    shape: tuple[int, int, int], classes: int, *, width: int, seed: int
) -> keras.Model:
    """Builds `patch_cnn` with softmax pooling in place of the maximum.

    Each channel is averaged over places with its own softmax as weights. All places get a gradient,
    not only the largest, so it learns the same detail in about half the time. Images and masks get
    a second, sharper pooling: in the first one the weight of a small detail is spread too widely,
    and some starts stay at chance.
    """
    layers = Layers(seed, "probe_soft")
    inputs = keras.Input(shape)
    x = _patterns(layers, inputs, width)
    pooled = _soft_maximum(x, 1.0)
    if is_image(shape):
        pooled = keras.layers.Concatenate()([pooled, _soft_maximum(x, 4.0)])
    return keras.Model(inputs, layers.dense(classes, "logits")(pooled))


def positional_cnn(
    shape: tuple[int, int, int], classes: int, *, width: int, seed: int
) -> keras.Model:
    """Builds a network that depends on where a pattern is.

    Its last layer reads all places, flattened, and the maximum over places.

    Args:
        shape: (h, w, c) of rows `[B, h, w, c]` float32; maps of 32 or more cells a side are first
            reduced to half.
        classes: K.
        width: sizes the channels.
        seed: of weights and dropout.
    """
    layers = Layers(seed, "probe_placed")
    inputs = x = keras.Input(shape)
    cells = min(shape[:2])
    if cells >= _MAX_CELLS:
        x = _block(layers, x, width, kernel=5, strides=2, number="0")
    x = _block(layers, x, 2 * width, kernel=3, strides=1, number="1")
    x = _block(layers, x, 3 * width, kernel=3, strides=2 if cells > 4 else 1, number="2")
    if cells >= _MAX_CELLS:
        x = _block(layers, x, 4 * width, kernel=3, strides=2, number="3")
    flat = _dropout(_DROPOUT, seed, "dropout1")(keras.layers.Flatten()(x))
    placed = layers.dense(160, "placed", activation="relu")(flat)
    x = keras.layers.Concatenate()([placed, keras.layers.GlobalMaxPooling2D()(x)])
    x = _dropout(_DROPOUT, seed, "dropout2")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x))


def with_batch_norm(model: keras.Model, seed: int) -> keras.Model:
    """Builds a network of the same shape with new weights and BatchNorm in place of GroupNorm.

    Args:
        model: a discriminator.
        seed: of the new weights.
    """

    def rebuild(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.GroupNormalization):
            return keras.layers.BatchNormalization(momentum=0.9, name=layer.name)
        config = _reseeded(copy.deepcopy(layer.get_config()), f"{layer.name}/{seed}")
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=rebuild)


def with_same_weights(model: keras.Model) -> keras.Model:
    """Returns a trainable copy; the original does not change."""
    twin = keras.models.clone_model(model)
    twin.set_weights([np.array(values) for values in model.get_weights()])
    twin.trainable = True
    return twin


class _FusedNorm(keras.layers.Layer):
    """BatchNorm of maps `[B, h, w, c]` in one fused operation, twice as fast as Keras' own.

    Moving averages have momentum 0.9.
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
        moving = (self._mean, self._variance)
        if not training:
            return norm(x, *scales, *(m.value for m in moving), epsilon=1e-3, is_training=False)[0]
        result, *batch = norm(x, *scales, epsilon=1e-3, is_training=True)
        for variable, new in zip(moving, batch, strict=True):
            variable.assign(0.9 * variable + 0.1 * new)
        return result


class _CellsAsChannels(keras.layers.Layer):
    """Space to depth: `[B, h, w, c]` -> `[B, h / 2, w / 2, 4 c]`, odd sides padded with zeros."""

    def call(self, x: Any) -> Any:
        odd = [[0, 0], *([0, side % 2] for side in x.shape[1:3]), [0, 0]]
        return tf.nn.space_to_depth(tf.pad(x, odd), 2)


def _patterns(layers: Layers, x: Any, width: int) -> Any:
    """Applies two convolutions: `[B, h, w, 2 * width]`, the smaller of h and w at most 32."""
    while min(x.shape[1:3]) > _MAX_CELLS:
        x = _CellsAsChannels()(x)
    x = _block(layers, x, width, kernel=3, strides=1, number="1")
    return _block(layers, x, 2 * width, kernel=3, strides=1, number="2")


def _soft_maximum(x: Any, sharpness: float) -> Any:
    """Softmax pooling `[B, h, w, c]` -> `[B, c]`: the mean weighted by softmax(sharpness x)."""
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
    """Returns the configuration of a layer with other seeds, which give other weights."""
    if isinstance(config, dict):
        return {
            key: layer_seed(0, name) if key == "seed" else _reseeded(value, f"{name}/{key}")
            for key, value in config.items()
        }
    return config
