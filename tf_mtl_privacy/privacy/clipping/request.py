"""What every clipping backend is asked for and gives back.

Row-wise work on parts of a batch, so that its intermediate results stay small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError

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


# Where one row's overflow cannot be told from its effect on others, no update is made at all.
OVERFLOW = "a per-example gradient is not finite: no update was made; lower the learning rate"


@dataclasses.dataclass(frozen=True)
class Request:
    """One batch to be clipped and summed.

    Attributes:
        model: a built Keras 3 model.
        variables: the `tf.Variable`s behind its trainable variables.
        inputs: tensors with `B` rows, nested as the model takes them; masked rows are zero.
        per_example_loss: the model's outputs -> losses `[B]` float32.
        mask: `[B]` bool, False for rows that must add nothing; None where all rows count.
        clip: bound on each example's gradient norm, > 0.
        training: which mode the model runs in.
    """

    model: keras.Model
    variables: list[tf.Variable]
    inputs: Any
    per_example_loss: Callable[[Any], tf.Tensor]
    mask: tf.Tensor | None
    clip: float
    training: bool

    def losses(self, outputs: Any) -> tf.Tensor:
        """The losses `[B]`, zero where masked.

        Raises:
            UsageError: they are not one value per example.
            tf.errors.InvalidArgumentError: the same, where the number is known only when it runs.
        """
        losses = tf.convert_to_tensor(self.per_example_loss(outputs))
        rows = tf.nest.flatten(self.inputs)[0]
        if losses.shape.rank != 1 or not losses.shape[:1].is_compatible_with(rows.shape[:1]):
            raise UsageError(
                f"per_example_loss gave shape {losses.shape} for a batch of {rows.shape[0]}: "
                "expected [batch], one value per example; a reduced loss cannot be clipped"
            )
        if losses.shape[0] is None or rows.shape[0] is None:
            same = tf.debugging.assert_equal(
                tf.shape(losses)[0],
                tf.shape(rows)[0],
                "per_example_loss: expected one value per example, not a reduced loss",
            )
            with tf.control_dependencies([same]):
                losses = tf.identity(losses)
        if self.mask is None:
            return losses
        return tf.where(self.mask, losses, tf.zeros_like(losses))

    def without_bad_rows(self) -> tuple[Request, tf.Tensor]:
        """The same request with rows whose inputs are not finite masked, and which these are.

        For backends that differentiate the whole batch for each row: there a NaN in one row would
        reach the gradients of all others, as zero times NaN.
        """
        first = tf.nest.flatten(self.inputs)[0]
        fine = tf.ones(tf.shape(first)[:1], tf.bool)
        for part in tf.nest.flatten(self.inputs):
            if part.dtype.is_floating:
                flat = tf.reshape(part, [tf.shape(part)[0], -1])
                fine = tf.logical_and(fine, tf.reduce_all(tf.math.is_finite(flat), 1))
        mask = fine if self.mask is None else tf.logical_and(fine, self.mask)
        inputs = tf.nest.map_structure(lambda part: zero_rows(mask, part), self.inputs)
        bad = tf.logical_not(fine)
        if self.mask is not None:
            bad = tf.logical_and(bad, self.mask)
        return dataclasses.replace(self, inputs=inputs, mask=mask), bad


class Clipped(NamedTuple):
    """What a backend gives back.

    Attributes:
        losses: `[B]` float32.
        sums: one float64 tensor per variable: `sum_i min(1, clip / |g_i|) g_i`, jointly clipped.
        skipped: scalar int64, how many unmasked rows added nothing because their gradient was
            not finite.
    """

    losses: tf.Tensor
    sums: list[tf.Tensor]
    skipped: tf.Tensor


def clip_any_batch(backend: Callable[[Request], Clipped], request: Request) -> Clipped:
    """Clips and sums a batch of any number of rows, 0 included.

    Layers, gradients of layers and Jacobians fail in many ways on tensors without rows. A batch
    that is, or may be, empty gets one masked row of zeros where it is empty; the loss does not
    see it.

    Args:
        backend: takes batches of at least one row.
        request: a batch of `B` >= 0 rows.
    """
    first = tf.nest.flatten(request.inputs)[0]
    if first.shape[0]:
        return backend(request)
    rows, extra = 0, 1
    if first.shape[0] is None:
        rows = tf.shape(first)[0]
        extra = tf.cast(tf.equal(rows, 0), tf.int32)

    def padded(value: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[extra], tf.shape(value)[1:]], 0)
        return tf.concat([value, tf.zeros(shape, value.dtype)], 0)

    def loss(outputs: Any) -> tf.Tensor:
        real = tf.nest.map_structure(lambda part: part[:rows], outputs)
        losses = tf.convert_to_tensor(request.per_example_loss(real))
        return padded(losses) if losses.shape.rank == 1 else losses

    mask = tf.ones([rows], tf.bool) if request.mask is None else request.mask
    clipped = backend(
        dataclasses.replace(
            request,
            inputs=tf.nest.map_structure(padded, request.inputs),
            per_example_loss=loss,
            mask=padded(mask),
        )
    )
    losses = clipped.losses[:rows]
    losses.set_shape([first.shape[0]])
    return clipped._replace(losses=losses)


class Factors(NamedTuple):
    """Factors `[B]` float64 of the rows, which rows `[B]` bool are finite, and whether all are."""

    values: tf.Tensor
    finite: tf.Tensor
    all_finite: tf.Tensor


def clip_factors(squared_norms: tf.Tensor, clip: float, mask: tf.Tensor | None) -> Factors:
    """Computes `min(1, clip / norm)` per row, zero where the row is masked or not finite.

    Abadi et al. 2016, algorithm 1. A squared norm that float32 cannot hold counts as not finite.

    Args:
        squared_norms: `[B]` float64.
        clip: > 0.
        mask: `[B]` bool or None.
    """
    norms = tf.sqrt(tf.maximum(wide(squared_norms), 0.0))
    finite = tf.math.is_finite(tf.cast(squared_norms, tf.float32))
    counts = finite if mask is None else tf.logical_and(finite, mask)
    factors = tf.where(counts, clip / tf.maximum(norms, clip), tf.zeros_like(norms))
    return Factors(factors, finite, tf.reduce_all(finite))


def check_squared_norms(squared_norms: tf.Tensor) -> tf.Tensor:
    """Returns float64 squared norms, after a check that float32 holds each of them.

    Raises:
        tf.errors.InvalidArgumentError: it does not; see `OVERFLOW`.
    """
    checked = tf.debugging.check_numerics(tf.cast(squared_norms, tf.float32), OVERFLOW)
    with tf.control_dependencies([checked]):
        return tf.identity(squared_norms)


def wide(value: tf.Tensor) -> tf.Tensor:
    """Returns the value in float64, in which norms and sums over rows are computed."""
    return tf.cast(value, tf.float64)


def clean_rows(factors: Factors, value: tf.Tensor) -> tf.Tensor:
    """`value` `[B, ...]` with rows that are not finite set to zero.

    A factor of zero is not enough for them: zero times infinity is NaN. Where all rows are finite,
    as almost always, this costs nothing.
    """
    return tf.cond(factors.all_finite, lambda: value, lambda: zero_rows(factors.finite, value))


def count_skipped(finite: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """How many unmasked rows are not finite, scalar int64."""
    bad = tf.logical_not(finite)
    if mask is not None:
        bad = tf.logical_and(bad, mask)
    return tf.reduce_sum(tf.cast(bad, tf.int64))


def mark(losses: tf.Tensor, bad: tf.Tensor) -> tf.Tensor:
    """The losses with NaN where a row was taken out, so that nobody takes it for learnt."""
    return tf.where(bad, tf.constant(float("nan"), losses.dtype), losses)


def zero_rows(keep: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """`value` with every row zero where `keep` `[B]` is False, even where it is not finite."""
    shape = tf.concat([tf.shape(keep), tf.ones([tf.rank(value) - 1], tf.int32)], 0)
    return tf.where(tf.reshape(keep, shape), value, tf.zeros_like(value))
