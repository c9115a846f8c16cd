"""A layer that brings channels to one scale and takes out what they share; set, not trained.

A discriminator without it hardly learns where its input's directions differ a thousandfold in
variance, as those of a trained encoder do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


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
