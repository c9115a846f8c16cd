"""The networks on top of the encoder: task classifier B, privacy discriminator D, restorer R.

Nothing in the discriminator mixes examples, so that clipping bounds the gradient of each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.models.layers import (
    Layers,
    convolution_block,
    from_cells,
    group_norm,
    halvings,
)

_POOLED_BLOCKS, _HEADS = 2, 4
# Image pixels along each side of a cell of the last convolution.
_PATCH = 4


def build_business(
    feature_shape: tuple[int, int, int],
    task_classes: Mapping[str, int],
    *,
    units: int,
    seed: int = 0,
) -> keras.Model:
    """Builds B: features `[B, h, w, c]` -> task name -> logits `[B, classes]`, all float32.

    Pairs of convolutions halve the grid until it has at most 4x4 cells, which the logits then see
    by position. (With pooling over positions, the same tasks took several times as many steps to
    learn.)

    Args:
        feature_shape: (h, w, c).
        task_classes: task name -> number of classes.
        units: channels of the first pair; half as many again in the later ones.
        seed: of the initial weights.
    """
    layers = Layers(seed, "business")
    inputs = keras.Input(feature_shape, name="features")
    strides = [2] * halvings(max(feature_shape[:2])) or [1]
    x, channels = inputs, units
    for number, stride in enumerate(strides, start=1):
        x = convolution_block(layers, x, channels, strides=stride, number=f"{number}a")
        x = convolution_block(layers, x, channels, strides=1, number=f"{number}b")
        channels = units * 3 // 2
    x = keras.layers.Flatten(name="flatten")(x)
    logits = {
        task: layers.dense(classes, f"logits_{task}")(x) for task, classes in task_classes.items()
    }
    return keras.Model(inputs, logits, name="business")


def build_discriminator(
    feature_shape: tuple[int, int, int],
    classes: int,
    *,
    shape: str,
    units: int,
    whitened: bool = False,
    seed: int = 0,
) -> keras.Model:
    """Builds D: features `[B, h, w, c]` float32 -> logits `[B, classes]` float32.

    Only Dense, Conv2D and GroupNormalization layers have weights that are trained.

    Args:
        feature_shape: (h, w, c).
        classes: number of private classes, K.
        shape: 'conv' (convolutions down to 4x4 cells, logits), 'dense' (one hidden layer, logits),
            'pooled' (convolutions whose cells are pooled by attention, logits) or 'soft' (two
            convolutions, a soft maximum of each channel over cells, logits).
        units: width of the hidden layer; the convolutions have half as many channels, those of
            'soft' a quarter and half as many.
        whitened: start with a `Whitening` layer, which changes nothing until it is set.
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
    """Builds D from a run's configuration."""
    return build_discriminator(
        feature_shape,
        classes,
        shape=model.discriminator,
        units=model.discriminator_units,
        whitened=model.discriminator_whitening,
        seed=seed,
    )


def _convolutions(layers: Layers, x: Any, channels: int) -> Any:
    """Reduces to at most 4x4 cells, flattened: positions make a small detail easier to learn."""
    if x.shape[-1] > 2 * channels:
        x = layers.conv(channels, 1, "reduce")(x)
    strides = [1] + [2] * halvings(max(x.shape[1:3]))
    for number, stride in enumerate(strides, start=1):
        x = convolution_block(layers, x, channels, strides=stride, number=number)
    return keras.layers.Flatten(name="flatten")(x)


def _pooled(layers: Layers, x: Any, channels: int) -> Any:
    """Returns the cells' mean, weighted by attention: few weights, and a detail can be anywhere.

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
    """Returns each channel's mean over cells, weighted by the softmax of that channel itself.

    It is a soft maximum over positions with a gradient to all of them: few weights, and a detail
    can be anywhere.
    """
    x = convolution_block(layers, x, channels, strides=1, number=1)
    x = convolution_block(layers, x, 2 * channels, strides=1, number=2)
    cells = x.shape[1] * x.shape[2]
    x = keras.layers.Reshape((cells, 2 * channels), name="cells")(x)
    weights = keras.layers.Softmax(axis=1, name="places")(x)
    x = keras.layers.Multiply(name="weighed")([x, weights])
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.layers.Rescaling(float(cells), name="sum")(x)


class Whitening(keras.layers.Layer):
    """`(x - mean) @ matrix` at every cell, of features `[B, h, w, c]`; set, not trained.

    Without it a discriminator hardly learns from the features of a trained encoder, whose
    directions differ a thousandfold in variance.

    Weights, none of them trainable: `mean` `[c]`, from 0, and `matrix` `[c, c]`, from the
    identity, so that nothing is changed until training sets both (`set_whitening`).
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
        """Returns the input's shape."""
        return input_shape


def build_restorer(
    feature_shape: tuple[int, int, int],
    stride: int,
    *,
    width: int,
    seed: int = 0,
    pixel_path: bool = False,
) -> keras.Model:
    """Builds R: features `[B, h, w, c]` -> image `[B, h*stride, w*stride, 3]` in [0, 1], float32.

    The image is the sigmoid of two parts: coarse colours, enlarged bilinearly, and details,
    16 pixels per cell by a sub-pixel convolution (Shi et al. 2016). A sub-pixel convolution, like
    a transposed one, can draw a checkerboard over a flat area (Odena et al. 2016, "Deconvolution
    and Checkerboard Artifacts"). Here it cannot, whatever its weights: it has no bias and sees
    only how a cell differs from the mean of its neighbours, which is 0 over a flat area.
    Strides above 4 are first reduced to 4 by repeating cells and convolving. There is no
    normalisation, because absolute brightness has to pass.

    With `pixel_path` a third part is the image that the features carry, and the other two start at
    zero, so that only the covered parts are left to learn.

    Args:
        feature_shape: (h, w, c).
        stride: image pixels per feature cell: 4, 8, 16 or 32.
        width: channels of the convolutions.
        seed: of the initial weights.
        pixel_path: True if the last 3 * stride^2 channels are the image's pixels in [-1, 1].
    """
    layers = Layers(seed, "restorer")
    inputs = keras.Input(feature_shape, name="features")
    x = layers.conv(width, 3, "in", activation="relu")(inputs)
    y = layers.conv(width, 3, "block", activation="relu")(x)
    x = keras.layers.Add(name="block_add")([x, y])
    left = stride
    while left > _PATCH:
        left //= 2
        x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"up{left}")(x)
        x = layers.conv(width, 3, f"conv{left}", activation="relu")(x)
    parts = [_colours(layers, x, pixel_path), _details(layers, x, pixel_path)]
    if pixel_path:
        parts.append(_carried(inputs, stride))
    pixels = keras.layers.Add(name="logits")(parts)
    image = keras.layers.Activation("sigmoid", name="image")(pixels)
    return keras.Model(inputs, image, name="restorer")


def _colours(layers: Layers, x: Any, from_zero: bool) -> Any:
    x = layers.conv(3, 3, "colours", from_zero=from_zero)(x)
    return keras.layers.UpSampling2D(_PATCH, interpolation="bilinear", name="colours_up")(x)


def _details(layers: Layers, x: Any, from_zero: bool) -> Any:
    # Average pooling ignores the padding, so that a flat area gives 0 at the border, too.
    mean = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="neighbours")(x)
    x = keras.layers.Subtract(name="differences")([x, mean])
    x = layers.conv(3 * _PATCH**2, 3, "details", use_bias=False, from_zero=from_zero)(x)
    return from_cells(x, _PATCH, "patches")


def _carried(features: Any, stride: int) -> Any:
    """Returns the log-odds of the pixels that the features carry."""
    image = from_cells(features[..., -3 * stride**2 :], stride, "carried")
    return LogOdds(name="carried_logits")(image)


class LogOdds(keras.layers.Layer):
    """Values in [-1, 1] -> log-odds of their share of that range, at most that of 0.995."""

    def call(self, inputs: Any) -> Any:
        """See the class."""
        share = keras.ops.clip(0.5 * (inputs + 1.0), 0.005, 0.995)
        return keras.ops.log(share) - keras.ops.log(1.0 - share)
