"""The privacy classifier D. Nothing in it mixes examples, so that clipping bounds each of them.

A layer that brings channels to one scale and takes out what they share; set, not trained.

A discriminator without it hardly learns where its input's directions differ a thousandfold in
variance, as those of a trained encoder do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.models.layers import Layers, convolution_block, group_norm, halvings


class Whitening(keras.layers.Layer):
    """`(x - mean) @ matrix` at every cell, of features `[B, h, w, c]`.

    Weights, none of them trainable: `mean` `[c]`, from 0, and `matrix` `[c, c]`, from the
    identity, so that nothing is changed until both are set (`training.whitening`).
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """See the class."""
        channels = input_shape[-1]
        self.mean = self.add_weight(
            name="mean", shape=(channels,), initializer="zeros", trainable=False
        )
        self.matrix = self.add_weight(
            name="matrix", shape=(channels, channels), initializer="identity", trainable=False
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        return keras.ops.matmul(inputs - self.mean, self.matrix)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape


def whitening_of(discriminator: keras.Model) -> Whitening | None:
    """The discriminator's layer, or None where it has none."""
    return next((layer for layer in discriminator.layers if isinstance(layer, Whitening)), None)


_POOLED_BLOCKS, _HEADS = 2, 4


def build_discriminator(
    feature_shape: tuple[int, int, int],
    classes: int,
    *,
    shape: str,
    units: int,
    whitened: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Features `[B, h, w, c]` float32 -> logits `[B, classes]` float32.

    Only Dense, Conv2D and GroupNormalization layers have weights that are trained.

    Args:
        feature_shape: (h, w, c).
        classes: number of private classes, K.
        shape: 'conv' (convolutions down to 4x4 cells, logits), 'dense' (one hidden layer, logits),
            'pooled' (convolutions whose cells are pooled by attention, logits) or 'soft' (two
            convolutions, a soft maximum of each channel over cells, logits).
        units: width of the hidden layer; the convolutions have half as many channels, those of
            'soft' a quarter and half as many.
        whitened: begin with a `Whitening` layer, which changes nothing until it is set.
        seed: of the initial weights.
    """
    layers = Layers(seed, f"discriminator_{shape}")
    inputs = x = keras.Input(feature_shape, name="features")
    if whitened:
        x = Whitening(name="whitening")(x)
    if shape == "dense":
        x = keras.layers.Flatten(name="flatten")(x)
        x = layers.dense(units, "hidden", activation="relu")(x)
    elif shape == "pooled":
        x = _pooled(layers, x, max(units // 2, 1))
    elif shape == "soft":
        x = _soft(layers, x, max(units // 4, 1))
    else:
        x = _convolutions(layers, x, max(units // 2, 1))
    return keras.Model(inputs, layers.dense(classes, "logits")(x), name="discriminator")


def configured_discriminator(
    model: ModelConfig, feature_shape: tuple[int, int, int], classes: int, seed: int
) -> keras.Model:
    """`build_discriminator` of the shape that a run's configuration asks for."""
    return build_discriminator(
        feature_shape,
        classes,
        shape=model.discriminator,
        units=model.discriminator_units,
        whitened=model.discriminator_whitening,
        seed=seed,
    )


def _convolutions(layers: Layers, x: Any, channels: int) -> Any:
    """To at most 4x4 cells, flattened: a small detail is easier to learn where places count."""
    if x.shape[-1] > 2 * channels:
        x = layers.conv(channels, 1, "reduce")(x)
    strides = [1] + [2] * halvings(max(x.shape[1:3]))
    for number, stride in enumerate(strides, start=1):
        x = convolution_block(layers, x, channels, strides=stride, number=number)
    return keras.layers.Flatten(name="flatten")(x)


def _pooled(layers: Layers, x: Any, channels: int) -> Any:
    """The cells' mean, weighed by attention: few weights, and a detail may be in any place.

    Ilse et al. 2018, "Attention-based Deep Multiple Instance Learning", section 2.4: each head's
    weights are a softmax over cells of a 1x1 convolution's output.
    """
    x = group_norm(x.shape[-1], "norm0", groups=1)(x)
    x = layers.conv(channels, 1, "reduce")(x)
    for number in range(1, _POOLED_BLOCKS + 1):
        x = convolution_block(layers, x, channels, strides=1, number=number)
    cells = x.shape[1] * x.shape[2]
    weights = layers.conv(_HEADS, 1, "attention")(x)
    weights = keras.layers.Reshape((cells, _HEADS), name="attention_cells")(weights)
    weights = keras.layers.Softmax(axis=1, name="attention_weights")(weights)
    x = keras.layers.Reshape((cells, channels), name="cells")(x)
    x = keras.layers.Dot(axes=1, name="pool")([weights, x])
    return keras.layers.Flatten(name="flatten")(x)


def _soft(layers: Layers, x: Any, channels: int) -> Any:
    """Each channel's mean over cells, weighed by the softmax of that channel itself.

    A maximum over places from which every place learns, not only the largest: few weights, and a
    detail may be in any place.
    """
    x = convolution_block(layers, x, channels, strides=1, number=1)
    x = convolution_block(layers, x, 2 * channels, strides=1, number=2)
    cells = x.shape[1] * x.shape[2]
    x = keras.layers.Reshape((cells, 2 * channels), name="cells")(x)
    weights = keras.layers.Softmax(axis=1, name="places")(x)
    x = keras.layers.Multiply(name="weighed")([x, weights])
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.layers.Rescaling(float(cells), name="sum")(x)
