"""Identity forward, scaled gradient backward."""

from __future__ import annotations

import keras
import tensorflow as tf


def scale_gradient(value: tf.Tensor, scale: tf.Tensor | float) -> tf.Tensor:
    """Returns `value`, and multiplies the gradient that flows back through it by `scale`.

    It lets one backward pass give the encoder `alpha * dB + beta * dA + gamma * dR` while each
    head gets the plain gradient of its own loss (paper, section 3.2, step 3.3).

    Args:
        value: any float tensor.
        scale: a scalar; it gets no gradient.
    """
    scale = tf.cast(scale, value.dtype)

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        return tf.identity(x), lambda upstream: upstream * scale

    return forward(value)


class ScaleGradient(keras.layers.Layer):
    """`scale_gradient` as a layer, for functional models.

    Args:
        scale: of the gradient, finite.
        name: the layer's name.
    """

    def __init__(self, scale: float, name: str | None = None) -> None:
        super().__init__(name=name)
        self._scale = scale

    def call(self, value: tf.Tensor) -> tf.Tensor:
        """`value`, unchanged."""
        return scale_gradient(value, self._scale)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape
