"""The restorer R: features back to an image, without a checkerboard."""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.models.layers import Layers

# Image pixels per cell, along each side, that the last convolution writes at once.
_PATCH = 4


def build_restorer(
    feature_shape: tuple[int, int, int], stride: int, *, width: int, seed: int = 0
) -> keras.Model:
    """Features `[B, h, w, c]` float32 -> image `[B, h*stride, w*stride, 3]` float32 in [0, 1].

    The image is the sigmoid of two parts: coarse colours, enlarged bilinearly, and details,
    16 pixels per cell by a sub-pixel convolution (Shi et al. 2016). A sub-pixel convolution, like
    a transposed one, can draw a checkerboard over a flat area (Odena et al. 2016, "Deconvolution
    and Checkerboard Artifacts"). Here it cannot, whatever its weights: it has no bias and sees
    only how a cell differs from the mean of its neighbours, which is 0 over a flat area.
    Strides above 4 are first brought to 4 by repeating cells and convolving. There is no
    normalisation, as absolute brightness has to come through.

    Args:
        feature_shape: (h, w, c).
        stride: image pixels per feature cell: 4, 8, 16 or 32.
        width: channels of the convolutions.
        seed: of the initial weights.
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
    pixels = keras.layers.Add(name="logits")([_colours(layers, x), _details(layers, x)])
    image = keras.layers.Activation("sigmoid", name="image")(pixels)
    return keras.Model(inputs, image, name="restorer")


def _colours(layers: Layers, x: Any) -> Any:
    x = layers.conv(3, 3, "colours")(x)
    return keras.layers.UpSampling2D(_PATCH, interpolation="bilinear", name="colours_up")(x)


def _details(layers: Layers, x: Any) -> Any:
    # Average pooling leaves the padding out, so a flat area gives 0 at the border, too.
    mean = keras.layers.AveragePooling2D(3, strides=1, padding="same", name="neighbours")(x)
    x = keras.layers.Subtract(name="differences")([x, mean])
    x = layers.conv(3 * _PATCH**2, 3, "details", use_bias=False)(x)
    rows, columns = x.shape[1:3]
    x = keras.layers.Reshape((rows, columns, _PATCH, _PATCH, 3), name="patches")(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5), name="patches_in_place")(x)
    return keras.layers.Reshape((rows * _PATCH, columns * _PATCH, 3), name="details_image")(x)
