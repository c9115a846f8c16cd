"""The restorer R: features back to an image, without a checkerboard."""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.models.layers import Layers, from_cells

# Image pixels per cell, along each side, that the last convolution writes at once.
_PATCH = 4


def build_restorer(
    feature_shape: tuple[int, int, int],
    stride: int,
    *,
    width: int,
    seed: int = 0,
    pixel_path: bool = False,
) -> keras.Model:
    """Features `[B, h, w, c]` float32 -> image `[B, h*stride, w*stride, 3]` float32 in [0, 1].

    The image is the sigmoid of two parts: coarse colours, enlarged bilinearly, and details,
    16 pixels per cell by a sub-pixel convolution (Shi et al. 2016). A sub-pixel convolution, like
    a transposed one, can draw a checkerboard over a flat area (Odena et al. 2016, "Deconvolution
    and Checkerboard Artifacts"). Here it cannot, whatever its weights: it has no bias and sees
    only how a cell differs from the mean of its neighbours, which is 0 over a flat area.
    Strides above 4 are first brought to 4 by repeating cells and convolving. There is no
    normalisation, as absolute brightness has to come through.

    With `pixel_path` a third part is the picture that the features carry, and the other two start
    at zero: what is left to learn is what was covered.

    Args:
        feature_shape: (h, w, c).
        stride: image pixels per feature cell: 4, 8, 16 or 32.
        width: channels of the convolutions.
        seed: of the initial weights.
        pixel_path: whether the last 3 * stride^2 channels are the picture's pixels in [-1, 1].
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
    # Average pooling leaves the padding out, so a flat area gives 0 at the border, too.
    mean = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="neighbours")(x)
    x = keras.layers.Subtract(name="differences")([x, mean])
    x = layers.conv(3 * _PATCH**2, 3, "details", use_bias=False, from_zero=from_zero)(x)
    return from_cells(x, _PATCH, "patches")


def _carried(features: Any, stride: int) -> Any:
    """The log-odds of the pixels that the features carry."""
    image = from_cells(features[..., -3 * stride**2 :], stride, "carried")
    return LogOdds(name="carried_logits")(image)


class LogOdds(keras.layers.Layer):
    """Values in [-1, 1] -> log-odds of their share of that range, at most that of 0.995."""

    def call(self, inputs: Any) -> Any:
        """See the class."""
        share = keras.ops.clip(0.5 * (inputs + 1.0), 0.005, 0.995)
        return keras.ops.log(share) - keras.ops.log(1.0 - share)
