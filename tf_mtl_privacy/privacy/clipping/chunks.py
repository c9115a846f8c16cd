"""Row-wise work on parts of a batch, so that its intermediate results stay small."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# 8 MB of float32: about what stays in a core's share of the cache.
_FLOATS_AT_ONCE = 2**21


def by_chunks(
    function: Callable[..., tf.Tensor],
    parts: list[tf.Tensor],
    floats_per_row: int,
    shape: tuple[int, ...] = (),
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Returns `function(*parts)` computed on some rows at a time.

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
        # Rows that the chunk before has done keep their values: `sum_by_chunks` counts those.
        first = tf.minimum(start, count) - begin
        index = tf.range(begin + first, tf.minimum(begin + size, count))
        values = function(*chunk)[first:]
        return start + size, tf.tensor_scatter_nd_update(done, index[:, tf.newaxis], values)

    _, values = tf.while_loop(
        lambda start, _: start < count,
        body,
        [tf.constant(0), tf.zeros([count, *shape], dtype)],
        parallel_iterations=1,
    )
    return values


def sum_by_chunks(
    function: Callable[..., tf.Tensor],
    weights: tf.Tensor,
    parts: list[tf.Tensor],
    floats_per_row: int,
    shape: tuple[int, ...],
) -> tf.Tensor:
    """Returns a sum over rows, computed on some rows at a time and accumulated in float64.

    The chunks are those of `by_chunks` for the same `floats_per_row`: what `function` recomputes
    for a row has the bits that it had there.

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

    _, total = tf.while_loop(
        lambda start, _: start < count,
        body,
        [tf.constant(0), tf.zeros(shape, tf.float64)],
        parallel_iterations=1,
    )
    return total


def _rows_at_once(floats_per_row: int) -> int:
    return max(1, _FLOATS_AT_ONCE // max(floats_per_row, 1))


def _fits(parts: list[tf.Tensor], size: int) -> bool:
    rows = parts[0].shape[0]
    return rows is not None and rows <= size


def _chunk(
    parts: list[tf.Tensor], start: tf.Tensor, size: int, count: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the first row of the chunk at `start`, and the chunk.

    The last chunk starts earlier instead of being shorter: every chunk has one shape.
    """
    begin = tf.maximum(tf.minimum(start, count - size), 0)
    return begin, [part[begin : begin + size] for part in parts]
