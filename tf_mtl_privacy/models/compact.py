"""A small residual network for CPUs: trained from scratch, no BatchNorm."""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.models.layers import Layers, group_norm

_BLOCKS = 2


def compact_backbone(inputs: Any, *, stride: int, width: int, seed: int) -> Any:
    """`[B, S, S, 3]` in [0, 1] -> `[B, S/stride, S/stride, 2*width]` float32.

    The channels double where the resolution halves, up to `4 * width`, and the trunk is not
    normalised (only the residual branches are, as in He et al. 2016, "Identity Mappings"), so
    that small details and absolute brightness reach the end.

    Args:
        inputs: a Keras input tensor.
        stride: 4, 8 or 16.
        width: channels of the first layer.
        seed: of the initial weights.
    """
    layers = Layers(seed, "compact")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    x = layers.conv(width, 5, "stem", strides=2, activation="relu")(x)
    channels, at = width, 2
    while at < stride:
        at, channels = at * 2, min(channels * 2, 4 * width)
        x = layers.conv(channels, 3, f"down{at}", strides=2)(x)
    for number in range(1, _BLOCKS + 1):
        x = _residual(layers, x, channels, channels // 2, f"block{number}")
    return keras.layers.Activation("relu", name="out")(x)


def _residual(layers: Layers, x: Any, channels: int, inner: int, name: str) -> Any:
    y = group_norm(channels, f"{name}_norm")(x)
    y = keras.layers.Activation("relu", name=f"{name}_relu")(y)
    y = layers.conv(inner, 1, f"{name}_conv1", activation="relu")(y)
    y = layers.conv(inner, 3, f"{name}_conv2", activation="relu")(y)
    y = layers.conv(channels, 1, f"{name}_conv3")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])
