"""The reader that a mask is trained against: it says the private label of covered pictures."""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.models.layers import Layers

_MOST_CELLS = 32


def build_region_reader(image_size: int, classes: int, *, width: int, seed: int) -> keras.Model:
    """Covered pictures `[B, S, S, 4]` (models/mask.py) -> logits `[B, classes]`, both float32.

    Small patterns at full resolution and the maximum of each over all places: it finds a small
    detail within some hundred steps. Its BatchNorm makes it quick, and is allowed because it is
    never trained under differential privacy.

    Args:
        image_size: S; halved until there are at most 32 cells a side.
        classes: K.
        width: channels of the first layer; the others have twice as many.
        seed: of the initial weights.
    """
    layers = Layers(seed, "region_reader")
    inputs = x = keras.Input((image_size, image_size, 4), name="covered")
    x = _block(layers, x, width, 5, 2, "first")
    while x.shape[1] > _MOST_CELLS:
        x = _block(layers, x, width, 3, 2, f"down{x.shape[1]}")
    x = _block(layers, x, 2 * width, 3, 1, "second")
    x = _block(layers, x, 2 * width, 3, 1, "third")
    x = keras.layers.GlobalMaxPooling2D(name="anywhere")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x), name="region_reader")


def _block(layers: Layers, x: Any, channels: int, size: int, strides: int, name: str) -> Any:
    x = layers.conv(channels, size, name, strides=strides, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
