"""One variable's per-example gradients, as their norms and their weighted sum.

The sum that is released must move by at most the clip norm C (and one part in 100,000) when a row
is added or removed, for every float32 input and not just for ordinary ones. Rounding can break
that in three ways: a norm comes out too small because large terms cancel in it, a norm under- or
overflows, or a row with large terms that cancel absorbs the partial sums of the other rows.
Three rules prevent it:

1. A row's term in the sum is a fixed tensor `g_i` that depends on that row alone, either
   `sum_t l_it r_it^T` of float32 factors, never formed and meant exactly, or an instantiated
   float32 tensor with whatever rounding it has.
2. Norms are computed in float64 from what enters the sum. A product of four float32 numbers
   neither overflows nor underflows in float64. Where the norm comes from Gram matrices, a bound on
   their rounding error is added (`_gram_norms`), so that it is never below `|g_i|`.
3. The sum over rows is accumulated in float64.

Let n_i be the computed norm, `w_i = min(1, C / n_i)` and `A_i = sum_t |l_it| |r_it|`. Then
`|w_i g_i| <= C (1 + 1e-10)` by rules 1 and 2. A sum of K products has a rounding error of at most
`K 2^-53` times the sum of the products' magnitudes, whatever the order of the additions (Higham
2002, "Accuracy and Stability of Numerical Algorithms", section 3.1), which is at most
`K 2^-53 B max_i w_i A_i` here. For instantiated gradients K = B and `w_i A_i = |w_i g_i| <= C`. For
factors K = B T and `w_i A_i <= 2^13 C`, because n_i is at least `2^-13 A_i`. The error stays
below `1e-6 C` for `B^2 T <= 1e6`, and below `1e-5 C` for `B^2 T <= 1e7`, even where every row is
built to cancel; ordinary rows have A_i of about |g_i| and errors 1,000 times smaller.
The result stays in float64, over replicas too, until it is rounded to the grid of the noise, which
is larger by what both may add to a row (`SecretNoise.add`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mtl_privacy.privacy.clipping import request
from tf_mtl_privacy.privacy.clipping.request import (
    Factors,
    by_chunks,
    clean_rows,
    sum_by_chunks,
    wide,
)

# Costs in multiply-adds of a float32 matrix product, measured on CPU cores: of one in float64, and
# of writing and reading a float of an intermediate matrix, in float32 and then in float64.
_WIDE_COST, _MEMORY_COST = 3.4, 32

# Part of the squared sum of magnitudes that a Gram matrix's norm is raised by. Its rounding needs
# (n + m + T^2 + 3) 2^-53; this is far more, so that the sum over rows is safe too, and for T
# ordinary positions raises the norm by about T 2^-27.
_PESSIMISM = 2.0**-26


class Contribution(NamedTuple):
    """Per-example gradients `g_i` of one variable; they need not exist anywhere.

    Attributes:
        variable: the Keras variable.
        squared_norms: `|g_i|^2`, `[B]` float64; not below the true value by more than 1e-10 of it.
        weighted_sum: weights w of the rows -> `sum_i w_i g_i` in the variable's shape, float64;
            rows that are not finite add nothing.
    """

    variable: Any
    squared_norms: tf.Tensor
    weighted_sum: Callable[[Factors], tf.Tensor]


class Sizes(NamedTuple):
    """Sizes of the factors of one row.

    Attributes:
        positions: T, the number of positions; None if it is not known.
        n: length of each left vector.
        m: length of each right vector.
    """

    positions: int | None
    n: int
    m: int


def instantiated(variable: Any, gradients: tf.Tensor) -> Contribution:
    """From the gradients themselves, `[B, ...]` with the variable's number of elements."""
    size = math.prod(variable.shape)
    rows = tf.reshape(gradients, [-1, size])

    def weighted_sum(factors: Factors) -> tf.Tensor:
        total = _sum_of_rows(wide(factors.values), clean_rows(factors, rows))
        return tf.reshape(total, variable.shape)

    squared = by_chunks(squared_lengths, [rows], 3 * size, dtype=tf.float64)
    return Contribution(variable, squared, weighted_sum)


def recomputed(
    variable: Any,
    parts: list[tf.Tensor],
    gradients: Callable[..., tf.Tensor],
    floats: int,
) -> Contribution:
    """From gradients that are instantiated twice, for some rows at a time.

    The second time gives the same bits, since the same operations run on the same chunks.

    Args:
        variable: the Keras variable.
        parts: tensors `[B, ...]`.
        gradients: parts `[b, ...]` -> `[b, ...]` with the variable's number of elements.
        floats: size of the intermediate results of one row, the gradient apart.
    """
    size = math.prod(variable.shape)
    cost = floats + 3 * size

    def flat(*chunk: tf.Tensor) -> tf.Tensor:
        return tf.reshape(gradients(*chunk), [-1, size])

    def norms(*chunk: tf.Tensor) -> tf.Tensor:
        return squared_lengths(flat(*chunk))

    def summed(weights: tf.Tensor, *chunk: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(wide(flat(*chunk)), weights, transpose_a=True)

    def weighted_sum(factors: Factors) -> tf.Tensor:
        clean = [clean_rows(factors, part) for part in parts]
        total = sum_by_chunks(summed, wide(factors.values), clean, cost, (size,))
        return tf.reshape(total, variable.shape)

    return Contribution(variable, by_chunks(norms, parts, cost, dtype=tf.float64), weighted_sum)


def outer_product(variable: Any, left: tf.Tensor, right: tf.Tensor) -> Contribution:
    """For `g_i = left_i right_i^T`: `|g_i|^2 = |left_i|^2 |right_i|^2` (Goodfellow 2015).

    Args:
        variable: of shape `[n, m]`.
        left: `[B, n]`.
        right: `[B, m]`.
    """
    squared = squared_lengths(left) * squared_lengths(right)
    sizes = Sizes(1, left.shape[-1], right.shape[-1])
    return Contribution(variable, squared, _sum_of_products(variable, [left, right], _as_is, sizes))


def sequence_product(
    variable: Any,
    parts: list[tf.Tensor],
    sizes: Sizes,
    factors_of: Callable[..., tuple[tf.Tensor, tf.Tensor]] | None = None,
    floats: int = 0,
) -> Contribution:
    """For `g_i = sum_t left_it right_it^T`.

    Args:
        variable: with `n m` elements, as `[n, m]`.
        parts: tensors `[B, ...]`.
        sizes: of left and right.
        factors_of: parts `[b, ...]` -> left `[b, T, n]` and right `[b, T, m]`; by default the parts
            are these.
        floats: size of the intermediate results of one row in `factors_of`.
    """
    factors_of = factors_of or _as_is
    if not prefers_gram(*sizes):

        def gradients(*chunk: tf.Tensor) -> tf.Tensor:
            left, right = factors_of(*chunk)
            return tf.matmul(left, right, transpose_a=True)

        return recomputed(variable, parts, gradients, floats)

    def norms(*chunk: tf.Tensor) -> tf.Tensor:
        return _gram_norms(*factors_of(*chunk))

    positions = sizes.positions or 1
    cost = floats + 2 * positions * (sizes.n + sizes.m) + 4 * positions**2
    squared = by_chunks(norms, parts, cost, dtype=tf.float64)
    return Contribution(variable, squared, _sum_of_products(variable, parts, factors_of, sizes))


def product_norms(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns `|sum_t left_it right_it^T|^2`, `[B]` float64, by the cheaper of two ways.

    Either the products are instantiated, or Gram matrices over the positions give
    `sum_st (left_is . left_it)(right_is . right_it)` (Li et al. 2022, "Large Language Models Can
    Be Strong Differentially Private Learners"; the choice per layer is Bu et al. 2022, "Scalable
    and Efficient Training of Large Convolutional Neural Networks with Differential Privacy").

    Args:
        left: `[B, T, n]` float32.
        right: `[B, T, m]` float32.
    """
    if prefers_gram(left.shape[1], left.shape[2], right.shape[2]):
        return _gram_norms(left, right)
    return squared_lengths(tf.matmul(left, right, transpose_a=True))


def prefers_gram(positions: int | None, n: int, m: int) -> bool:
    """Compares Gram matrices and one product per batch with `[n, m]` instantiated per example."""
    if positions is None:
        return False
    gram = _WIDE_COST * (positions**2 * (n + m + _MEMORY_COST) + positions * n * m)
    return gram < 2 * n * m * (positions + _MEMORY_COST)


def squared_lengths(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares of each row, `[B, ...]` float32 -> `[B]` float64.

    The squares of float32 numbers are exact in float64; neither they nor their products with
    another such sum overflow, or vanish, for any float32 numbers.
    """
    return tf.reduce_sum(tf.square(wide(value)), list(range(1, value.shape.rank)))


def _gram_norms(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns squared norms `[B]` float64 from Gram matrices, not below the true ones.

    Each entry of a Gram matrix of n terms is off by at most `n 2^-53 |l_s| |l_t|`; so the sum over
    s and t is off by at most `(n + m + T^2 + 3) 2^-53 A^2`, with `A = sum_t |l_t| |r_t|`. Where the
    positions cancel, that may be more than what is left. `_PESSIMISM A^2` is above it.
    """
    left, right = wide(left), wide(right)
    products = tf.matmul(left, left, transpose_b=True)
    products *= tf.matmul(right, right, transpose_b=True)
    magnitudes = tf.reduce_sum(tf.sqrt(tf.maximum(tf.linalg.diag_part(products), 0.0)), 1)
    exact = tf.maximum(tf.reduce_sum(products, [1, 2]), 0.0)
    return exact + _PESSIMISM * tf.square(magnitudes)


def _sum_of_products(
    variable: Any,
    parts: list[tf.Tensor],
    factors_of: Callable[..., tuple[tf.Tensor, tf.Tensor]],
    sizes: Sizes,
) -> Callable[[Factors], tf.Tensor]:
    """Returns `Contribution.weighted_sum` by one matrix product over rows and positions."""
    n, m = sizes.n, sizes.m
    floats = 2 * (sizes.positions or 1) * (n + m)
    # Each chunk adds a whole [n, m]; so chunks are not small beside that.
    cost = max(1, floats * request._FLOATS_AT_ONCE // max(request._FLOATS_AT_ONCE, 2 * n * m))

    def summed(weights: tf.Tensor, *chunk: tf.Tensor) -> tf.Tensor:
        left, right = (wide(part) for part in factors_of(*chunk))
        scaled = right * tf.reshape(weights, [-1] + [1] * (right.shape.rank - 1))
        flat = tf.reshape(left, [-1, n])
        return tf.matmul(flat, tf.reshape(scaled, [-1, m]), transpose_a=True)

    def weighted_sum(factors: Factors) -> tf.Tensor:
        clean = [clean_rows(factors, part) for part in parts]
        total = sum_by_chunks(summed, wide(factors.values), clean, cost, (n, m))
        return tf.reshape(total, variable.shape)

    return weighted_sum


def _sum_of_rows(weights: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns `sum_i weights_i rows_i`, `[N]` float64; some columns at a time if there are many.

    Args:
        weights: `[B]` float64.
        rows: `[B, N]` float32.
    """

    def summed(part: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(wide(part), weights, transpose_a=True)

    count, size = rows.shape
    if size <= 2**13 or (count is not None and count * size <= request._FLOATS_AT_ONCE):
        return summed(rows)
    width = request._FLOATS_AT_ONCE // tf.maximum(tf.shape(rows)[0], 1) + 1
    steps = -(-size // width)
    found = tf.TensorArray(tf.float64, steps, infer_shape=False, element_shape=[None])
    _, found = tf.while_loop(
        lambda step, _: step < steps,
        lambda step, found: (
            step + 1,
            found.write(step, summed(rows[:, step * width : (step + 1) * width])),
        ),
        [tf.constant(0), found],
        parallel_iterations=1,
    )
    return found.concat()


def _as_is(left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return left, right
