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
) -> tf.Tensor:
    """`function(*parts)` computed on some rows at a time.

    Args:
        function: tensors `[b, ...]` -> `[b, *shape]`, row i from row i alone.
        parts: tensors `[B, ...]`.
        floats_per_row: how much one row of the intermediate results takes.
        shape: of one row's result.

    Returns:
        `[B, *shape]` float32.
    """
    size = max(1, _FLOATS_AT_ONCE // max(floats_per_row, 1))
    rows = parts[0].shape[0]
    if rows is not None and rows <= size:
        return function(*parts)
    count = tf.shape(parts[0])[0]

    def body(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The last chunk starts earlier instead of being shorter: every chunk has one shape.
        begin = tf.maximum(tf.minimum(start, count - size), 0)
        index = tf.range(begin, tf.minimum(begin + size, count))
        values = function(*[part[begin : begin + size] for part in parts])
        return start + size, tf.tensor_scatter_nd_update(done, index[:, tf.newaxis], values)

    _, values = tf.while_loop(
        lambda start, _: start < count,
        body,
        [tf.constant(0), tf.zeros([count, *shape], tf.float32)],
        parallel_iterations=1,
    )
    return values
