"""Ghost clipping of Dense, on rows or on sequences of positions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.contribution import (
    Contribution,
    Sizes,
    instantiated,
    outer_product,
    sequence_product,
)


def forward(layer: Any, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`[B, ..., n]` -> (the same, `x kernel + bias` of shape `[B, ..., m]`)."""
    kernel = tf.convert_to_tensor(layer.kernel.value)
    z = tf.matmul(x, kernel) if x.shape.rank == 2 else tf.tensordot(x, kernel, 1)
    return x, z if layer.bias is None else tf.nn.bias_add(z, layer.bias.value)


def contributions(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Of kernel `[n, m]` and bias `[m]`."""
    if x.shape.rank == 2:
        found = [outer_product(layer.kernel, x, delta)]
    else:
        left, right = flatten(x), flatten(delta)
        sizes = Sizes(left.shape[1], left.shape[2], right.shape[2])
        found = [sequence_product(layer.kernel, [left, right], sizes)]
    return found + bias_contribution(layer.bias, delta)


def bias_contribution(bias: Any, delta: tf.Tensor) -> list[Contribution]:
    """Of a bias over the last axis, or none where there is no bias."""
    if bias is None:
        return []
    summed = delta if delta.shape.rank == 2 else tf.reduce_sum(flatten(delta), 1)
    return [instantiated(bias, summed)]


def flatten(value: tf.Tensor) -> tf.Tensor:
    """`[B, ..., c]` -> `[B, T, c]`."""
    positions, channels = value.shape[1:-1].num_elements(), value.shape[-1]
    if positions is None:
        return tf.reshape(value, tf.stack([tf.shape(value)[0], -1, channels]))
    return tf.reshape(value, [-1, positions, channels])
