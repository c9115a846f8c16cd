"""A layer that takes a few linear directions out of the features; set in closed form, not trained.

Source: Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", theorem 4.3;
the matrices are computed in training/erasure.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

# Part of the adapter: a backbone that was trained without it still fits.
NAME = "adapter_erasure"


class Erasure(keras.layers.Layer):
    """`x - P(x - mean)` over all numbers of an image, with P = right @ left of a small rank.

    Weights, none of them trainable: `mean` `[d]`, `right` `[d, rank]`, `left` `[rank, d]`, d the
    numbers of an image. They start at 0, where nothing is changed.

    Args:
        rank: directions that are taken out at most, >= 1.
    """

    def __init__(self, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rank = rank

    def build(self, input_shape: Sequence[int | None]) -> None:
        """See the class."""
        size = math.prod(int(length) for length in input_shape[1:] if length is not None)
        shapes = {"mean": (size,), "right": (size, self.rank), "left": (self.rank, size)}
        self.mean, self.right, self.left = (
            self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)
            for name, shape in shapes.items()
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        flat = keras.ops.reshape(inputs, (-1, self.mean.shape[0]))
        found = keras.ops.matmul(flat - self.mean, self.right)
        return inputs - keras.ops.reshape(
            keras.ops.matmul(found, self.left), keras.ops.shape(inputs)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "rank": self.rank}


def erasure_of(encoder: keras.Model) -> Erasure | None:
    """The encoder's layer, or None where it has none."""
    return next((layer for layer in encoder.layers if isinstance(layer, Erasure)), None)


def before_erasure(encoder: keras.Model) -> keras.Model:
    """The encoder up to what is erased, with shared weights: pictures -> features.

    Raises:
        ValueError: the encoder erases nothing.
    """
    layer = erasure_of(encoder)
    if layer is None:
        raise ValueError("Expected an encoder with an erasure layer")
    return keras.Model(encoder.inputs[0], layer.input, name="before_erasure")
