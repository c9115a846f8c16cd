"""One variable's per-example gradients, as their norms and their weighted sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.chunks import by_chunks
from tf_mtl_privacy.privacy.clipping.request import Factors, clean_rows, scale_rows

# To write and read a float of an intermediate matrix takes as long as about this many
# multiply-adds of a matrix product (measured on two CPU cores).
_MEMORY_COST = 16


class Contribution(NamedTuple):
    """Per-example gradients `g_i` of one variable; they need not exist anywhere.

    Attributes:
        variable: the Keras variable.
        squared_norms: `|g_i|^2`, `[B]` float32.
        weighted_sum: weights w of the rows -> `sum_i w_i g_i` in the variable's shape; rows that
            are not finite add nothing.
    """

    variable: Any
    squared_norms: tf.Tensor
    weighted_sum: Callable[[Factors], tf.Tensor]


def instantiated(variable: Any, gradients: tf.Tensor) -> Contribution:
    """From the gradients themselves, `[B, ...]` with the variable's number of elements."""
    rows = tf.reshape(gradients, [-1, math.prod(variable.shape)])

    def weighted_sum(factors: Factors) -> tf.Tensor:
        total = tf.linalg.matvec(clean_rows(factors, rows), factors.values, transpose_a=True)
        return tf.reshape(total, variable.shape)

    return Contribution(variable, tf.reduce_sum(tf.square(rows), 1), weighted_sum)


def outer_product(variable: Any, left: tf.Tensor, right: tf.Tensor) -> Contribution:
    """For `g_i = left_i right_i^T`: `|g_i|^2 = |left_i|^2 |right_i|^2` (Goodfellow 2015).

    Args:
        variable: of shape `[n, m]`.
        left: `[B, n]`.
        right: `[B, m]`.
    """
    squared = tf.reduce_sum(tf.square(left), 1) * tf.reduce_sum(tf.square(right), 1)

    def weighted_sum(factors: Factors) -> tf.Tensor:
        return tf.matmul(clean_rows(factors, left), scale_rows(factors, right), transpose_a=True)

    return Contribution(variable, squared, weighted_sum)


def sequence_product(variable: Any, left: tf.Tensor, right: tf.Tensor) -> Contribution:
    """For `g_i = sum_t left_it right_it^T`.

    Args:
        variable: of shape `[n, m]`.
        left: `[B, T, n]`.
        right: `[B, T, m]`.
    """
    positions, n, m = left.shape[1], left.shape[2], right.shape[2]
    cost = floats_per_row(positions, n, m)

    def weighted_sum(factors: Factors) -> tf.Tensor:
        weighted = tf.reshape(scale_rows(factors, right), [-1, m])
        flat = tf.reshape(clean_rows(factors, left), [-1, n])
        return tf.matmul(flat, weighted, transpose_a=True)

    return Contribution(variable, by_chunks(product_norms, [left, right], cost), weighted_sum)


def product_norms(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """`|sum_t left_it right_it^T|^2`, `[B]`, by whichever of two ways is cheaper.

    Either the products are instantiated, or Gram matrices over the positions give
    `sum_st (left_is . left_it)(right_is . right_it)` (Li et al. 2022, "Large Language Models Can
    Be Strong Differentially Private Learners"; the choice per layer is Bu et al. 2022, "Scalable
    and Efficient Training of Large Convolutional Neural Networks with Differential Privacy").

    Args:
        left: `[B, T, n]`.
        right: `[B, T, m]`.
    """
    if prefers_gram(left.shape[1], left.shape[2], right.shape[2]):
        products = tf.matmul(left, left, transpose_b=True)
        products *= tf.matmul(right, right, transpose_b=True)
        return tf.reduce_sum(products, [1, 2])
    return tf.reduce_sum(tf.square(tf.matmul(left, right, transpose_a=True)), [1, 2])


def prefers_gram(positions: int | None, n: int, m: int) -> bool:
    """Whether norms from Gram matrices cost less than instantiating `[n, m]` per example."""
    if positions is None:
        return False
    gram = positions**2 * (n + m + _MEMORY_COST)
    return gram < n * m * (positions + _MEMORY_COST)


def floats_per_row(positions: int | None, n: int, m: int) -> int:
    """Size of what `product_norms` holds per example."""
    if positions is not None and prefers_gram(positions, n, m):
        return 2 * positions**2
    return n * m
