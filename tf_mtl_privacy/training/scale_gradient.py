"""Identity forward, scaled gradient backward."""

from __future__ import annotations

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
