"""Per-example gradients of one variable, as squared norms and a weighted sum.

Adding or removing a row must move the clipped sum by at most the clip norm C (plus one part in
100,000), for every float32 input and not just for ordinary ones. Rounding can break this bound in
three ways: large terms cancel in a norm and make it too small, a norm under- or overflows, or a
row with large terms that cancel absorbs the partial sums of the other rows. Three rules prevent
this:

1. A row's term in the sum is a fixed tensor `g_i` that depends on that row alone: either the exact
   `sum_t l_it r_it^T` of float32 factors, which is never formed, or an instantiated float32 tensor
   including its rounding.
2. Norms are computed in float64 from the tensors that enter the sum. A product of four float32
   numbers neither overflows nor underflows in float64. Norms from Gram matrices are raised by a
   bound on their rounding error (`_gram_norms`), so they are never below `|g_i|`.
3. The sum over rows is accumulated in float64.

Let n_i be the computed norm, `w_i = min(1, C / n_i)` and `A_i = sum_t |l_it| |r_it|`. Then
`|w_i g_i| <= C (1 + 1e-10)` by rules 1 and 2. A sum of K products has a rounding error of at most
`K 2^-53` times the sum of the products' magnitudes, whatever the order of the additions (Higham
2002, "Accuracy and Stability of Numerical Algorithms", section 3.1), which is at most
`K 2^-53 B max_i w_i A_i` here. For instantiated gradients K = B and `w_i A_i = |w_i g_i| <= C`. For
factors K = B T and `w_i A_i <= 2^13 C`, because n_i is at least `2^-13 A_i`. The error stays
below `1e-6 C` for `B^2 T <= 1e6`, and below `1e-5 C` for `B^2 T <= 1e7`, even if every row is
built to cancel; ordinary rows have A_i of about |g_i| and errors 1,000 times smaller.
The result stays in float64, over replicas too, until it is rounded to the grid of the noise. The
noise is larger by what both roundings may add to a row (`SecretNoise.add`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.request import Factors, clean_rows, wide

# 8 MB of float32: about what stays in a core's share of the cache.
_FLOATS_AT_ONCE = 2**21
# Costs in multiply-adds of a float32 matrix product, measured on CPU cores: of one in float64, and
# of writing and reading a float of an intermediate matrix, in float32 and then in float64.
_WIDE_COST, _MEMORY_COST = 3.4, 32
# Squared norms from Gram matrices are raised by this share of the squared sum of magnitudes. Their
# rounding needs (n + m + T^2 + 3) 2^-53; this is far more, so that the sum over rows is safe too,
# and for T ordinary positions raises the norm by about T 2^-27.
_PESSIMISM = 2.0**-26


class Contribution(NamedTuple):
    """Per-example gradients `g_i` of one variable, which need not be stored.

    Attributes:
        variable: the Keras variable.
        squared_norms: `|g_i|^2`, `[B]` float64; at most 1e-10 (relative) below the true value.
        weighted_sum: weights w of the rows -> `sum_i w_i g_i` in the variable's shape, float64;
            rows that are not finite add nothing.
    """

    variable: Any
    squared_norms: tf.Tensor
    weighted_sum: Callable[[Factors], tf.Tensor]


class Sizes(NamedTuple):
    """Sizes of the factors of one row.

    Attributes:
        positions: T, the number of positions; None if unknown.
        n: length of each left vector.
        m: length of each right vector.
    """

    positions: int | None
    n: int
    m: int


def instantiated(variable: Any, gradients: tf.Tensor) -> Contribution:
    """Takes per-example gradients `[B, ...]` with the variable's number of elements per row."""
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
    """Instantiates per-example gradients twice, a few rows at a time, instead of storing them.

    Both times give the same bits, because the same operations run on the same chunks.

    Args:
        variable: the Keras variable.
        parts: tensors `[B, ...]`.
        gradients: parts `[b, ...]` -> `[b, ...]` with the variable's number of elements.
        floats: size of the intermediate results of one row, without the gradient.
    """
    size = math.prod(variable.shape)
    cost = floats + 3 * size

    def flat(*chunk: tf.Tensor) -> tf.Tensor:
        return tf.reshape(gradients(*chunk), [-1, size])

    def norms(*chunk: tf.Tensor) -> tf.Tensor:
        return squared_lengths(flat(*chunk))

    def summed(weights: tf.Tensor, *chunk: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(wide(flat(*chunk)), weights, transpose_a=True)

    squared = by_chunks(norms, parts, cost, dtype=tf.float64)
    return Contribution(variable, squared, _sum_of_parts(variable, summed, parts, cost, (size,)))


def outer_product(variable: Any, left: tf.Tensor, right: tf.Tensor) -> Contribution:
    """Represents `g_i = left_i right_i^T`; `|g_i|^2 = |left_i|^2 |right_i|^2` (Goodfellow 2015).

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
    """Represents `g_i = sum_t left_it right_it^T`, with norms by the cheaper of two ways.

    Either the products are instantiated, or Gram matrices over the positions give
    `sum_st (left_is . left_it)(right_is . right_it)` (Li et al. 2022, "Large Language Models Can
    Be Strong Differentially Private Learners"; the choice per layer is Bu et al. 2022, "Scalable
    and Efficient Training of Large Convolutional Neural Networks with Differential Privacy").

    Args:
        variable: with `n m` elements, as `[n, m]`.
        parts: tensors `[B, ...]`.
        sizes: of left and right.
        factors_of: parts `[b, ...]` -> left `[b, T, n]` and right `[b, T, m]`, float32; by default
            the parts are these.
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


def prefers_gram(positions: int | None, n: int, m: int) -> bool:
    """Returns True if Gram matrices are cheaper than instantiating `[n, m]` per example."""
    if positions is None:
        return False
    gram = _WIDE_COST * (positions**2 * (n + m + _MEMORY_COST) + positions * n * m)
    return gram < 2 * n * m * (positions + _MEMORY_COST)


def squared_lengths(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares of each row, `[B, ...]` float32 -> `[B]` float64.

    Squares of float32 numbers are exact in float64. Neither they nor their products with another
    such sum overflow or vanish, for any float32 numbers.
    """
    return tf.reduce_sum(tf.square(wide(value)), list(range(1, value.shape.rank)))


def _gram_norms(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns squared norms `[B]` float64 from Gram matrices, not below the true ones.

    Each entry of a Gram matrix of n terms is off by at most `n 2^-53 |l_s| |l_t|`, so the sum over
    s and t is off by at most `(n + m + T^2 + 3) 2^-53 A^2`, with `A = sum_t |l_t| |r_t|`. If the
    positions cancel, that may exceed the true norm. `_PESSIMISM A^2` is above it.
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
    # Each chunk adds a whole [n, m], so chunks are not small beside that.
    cost = max(1, floats * _FLOATS_AT_ONCE // max(_FLOATS_AT_ONCE, 2 * n * m))

    def summed(weights: tf.Tensor, *chunk: tf.Tensor) -> tf.Tensor:
        left, right = (wide(part) for part in factors_of(*chunk))
        scaled = right * tf.reshape(weights, [-1] + [1] * (right.shape.rank - 1))
        flat = tf.reshape(left, [-1, n])
        return tf.matmul(flat, tf.reshape(scaled, [-1, m]), transpose_a=True)

    return _sum_of_parts(variable, summed, parts, cost, (n, m))


def _sum_of_parts(
    variable: Any,
    summed: Callable[..., tf.Tensor],
    parts: list[tf.Tensor],
    cost: int,
    shape: tuple[int, ...],
) -> Callable[[Factors], tf.Tensor]:
    """Returns `Contribution.weighted_sum` from a function for `sum_by_chunks`."""

    def weighted_sum(factors: Factors) -> tf.Tensor:
        clean = [clean_rows(factors, part) for part in parts]
        total = sum_by_chunks(summed, wide(factors.values), clean, cost, shape)
        return tf.reshape(total, variable.shape)

    return weighted_sum


def _sum_of_rows(weights: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns `sum_i weights_i rows_i`, `[N]` float64; in blocks of columns if N is large.

    Args:
        weights: `[B]` float64.
        rows: `[B, N]` float32.
    """

    def summed(part: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(wide(part), weights, transpose_a=True)

    count, size = rows.shape
    if size <= 2**13 or (count is not None and count * size <= _FLOATS_AT_ONCE):
        return summed(rows)
    width = _FLOATS_AT_ONCE // tf.maximum(tf.shape(rows)[0], 1) + 1
    steps = -(-size // width)
    blocks = tf.TensorArray(tf.float64, steps, infer_shape=False, element_shape=[None])
    _, blocks = tf.while_loop(
        lambda step, _: step < steps,
        lambda step, blocks: (
            step + 1,
            blocks.write(step, summed(rows[:, step * width : (step + 1) * width])),
        ),
        [tf.constant(0), blocks],
        parallel_iterations=1,
    )
    return blocks.concat()


def _as_is(left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return left, right


def by_chunks(
    function: Callable[..., tf.Tensor],
    parts: list[tf.Tensor],
    floats_per_row: int,
    shape: tuple[int, ...] = (),
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Computes `function(*parts)` a few rows at a time, so that intermediate results stay small.

    Args:
        function: tensors `[b, ...]` -> `[b, *shape]`, row i from row i alone.
        parts: tensors `[B, ...]`.
        floats_per_row: size of the intermediate results of one row.
        shape: of one row's result.
        dtype: of the result.

    Returns:
        `[B, *shape]`.
    """
    size = _rows_at_once(floats_per_row)
    if _fits(parts, size):
        return function(*parts)
    count = tf.shape(parts[0])[0]

    def body(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, chunk = _chunk(parts, start, size, count)
        # Rows of the previous chunk keep their values, because `sum_by_chunks` counts those.
        first = tf.minimum(start, count) - begin
        index = tf.range(begin + first, tf.minimum(begin + size, count))
        values = function(*chunk)[first:]
        return start + size, tf.tensor_scatter_nd_update(done, index[:, tf.newaxis], values)

    return _loop(body, count, tf.zeros([count, *shape], dtype))


def sum_by_chunks(
    function: Callable[..., tf.Tensor],
    weights: tf.Tensor,
    parts: list[tf.Tensor],
    floats_per_row: int,
    shape: tuple[int, ...],
) -> tf.Tensor:
    """Computes a sum over rows, a few rows at a time, accumulated in float64.

    The chunks are those of `by_chunks` for the same `floats_per_row`: what `function` recomputes
    for a row has the same bits as there.

    Args:
        function: (weights `[b]` float64, tensors `[b, ...]`) -> their weighted sum over the rows,
            `[*shape]` float64; a row of weight 0 adds nothing.
        weights: `[B]` float64.
        parts: tensors `[B, ...]`.
        floats_per_row: size of the intermediate results of one row.
        shape: of the sum.

    Returns:
        `[*shape]` float64.
    """
    size = _rows_at_once(floats_per_row)
    if _fits(parts, size):
        return function(weights, *parts)
    count = tf.shape(parts[0])[0]

    def body(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, chunk = _chunk(parts, start, size, count)
        own = weights[begin : begin + size]
        new = tf.range(begin, tf.minimum(begin + size, count)) >= start
        own = tf.where(new, own, tf.zeros_like(own))
        return start + size, total + function(own, *chunk)

    return _loop(body, count, tf.zeros(shape, tf.float64))


def _rows_at_once(floats_per_row: int) -> int:
    return max(1, _FLOATS_AT_ONCE // max(floats_per_row, 1))


def _fits(parts: list[tf.Tensor], size: int) -> bool:
    rows = parts[0].shape[0]
    return rows is not None and rows <= size


def _chunk(
    parts: list[tf.Tensor], start: tf.Tensor, size: int, count: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the first row of the chunk at `start`, and the chunk.

    The last chunk starts earlier instead of being shorter, so all chunks have one shape.
    """
    begin = tf.maximum(tf.minimum(start, count - size), 0)
    return begin, [part[begin : begin + size] for part in parts]


def _loop(body: Callable[..., Any], count: tf.Tensor, initial: tf.Tensor) -> tf.Tensor:
    """Runs `body(start, value)` for every chunk, one after the other."""
    start = tf.constant(0)
    return tf.while_loop(
        lambda start, _: start < count, body, [start, initial], parallel_iterations=1
    )[1]
