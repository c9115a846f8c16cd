"""The classifier B: one set of logits per business task."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from tf_mtl_privacy.models.layers import Layers, convolution_block, halvings


def build_business(
    feature_shape: tuple[int, int, int],
    task_classes: Mapping[str, int],
    *,
    units: int,
    seed: int = 0,
) -> keras.Model:
    """Features `[B, h, w, c]` float32 -> task name -> logits `[B, classes]` float32.

    Pairs of convolutions halve the grid until it has at most 4x4 cells; the logits then see every
    cell by its place. (Pooled over places instead, the same tasks took several times as many
    steps to learn.)

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
