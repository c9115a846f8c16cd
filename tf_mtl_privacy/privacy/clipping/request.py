"""Interface of the clipping backends: the request, the result and the clip factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError

# Raised where the overflow of one row cannot be distinguished from its effect on other rows.
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
        training: the mode the model runs in.
    """

    model: keras.Model
    variables: list[tf.Variable]
    inputs: Any
    per_example_loss: Callable[[Any], tf.Tensor]
    mask: tf.Tensor | None
    clip: float
    training: bool

    def losses(self, outputs: Any) -> tf.Tensor:
        """Returns the losses `[B]`, zero where masked.

        Raises:
            UsageError: the loss is not one value per example.
            tf.errors.InvalidArgumentError: the same, where the batch size is known only at run
                time.
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
        """Masks the rows whose inputs are not finite.

        Backends that differentiate the whole batch for each row need this: a NaN in one row would
        reach the gradients of all others, as zero times NaN.

        Returns:
            The new request, and `[B]` bool: unmasked rows whose inputs are not finite.
        """
        first = tf.nest.flatten(self.inputs)[0]
        finite = tf.ones(tf.shape(first)[:1], tf.bool)
        for part in tf.nest.flatten(self.inputs):
            if part.dtype.is_floating:
                flat = tf.reshape(part, [tf.shape(part)[0], -1])
                finite = tf.logical_and(finite, tf.reduce_all(tf.math.is_finite(flat), 1))
        mask = finite if self.mask is None else tf.logical_and(finite, self.mask)
        inputs = tf.nest.map_structure(lambda part: zero_rows(mask, part), self.inputs)
        return dataclasses.replace(self, inputs=inputs, mask=mask), _unmasked(finite, self.mask)


class Clipped(NamedTuple):
    """Result of a backend.

    Attributes:
        losses: `[B]` float32.
        sums: one float64 tensor per variable: `sum_i min(1, clip / |g_i|) g_i`, jointly clipped.
        skipped: scalar int64, number of unmasked rows that added nothing because their gradient
            was not finite.
    """

    losses: tf.Tensor
    sums: list[tf.Tensor]
    skipped: tf.Tensor


def clip_any_batch(backend: Callable[[Request], Clipped], request: Request) -> Clipped:
    """Clips and sums a batch of any number of rows, 0 included.

    Layers, gradients of layers and Jacobians fail in many ways on tensors without rows. A batch
    that is, or may be, empty gets one masked row of zeros if it is empty; the loss ignores
    it.

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
    inputs = tf.nest.map_structure(padded, request.inputs)
    clipped = backend(
        dataclasses.replace(request, inputs=inputs, per_example_loss=loss, mask=padded(mask))
    )
    losses = clipped.losses[:rows]
    losses.set_shape([first.shape[0]])
    return clipped._replace(losses=losses)


class Factors(NamedTuple):
    """Clip factors `[B]` float64, the rows `[B]` bool that are finite, and whether all are."""

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
    """Returns float64 squared norms after checking that float32 can hold each of them.

    Raises:
        tf.errors.InvalidArgumentError: it cannot; see `OVERFLOW`.
    """
    checked = tf.debugging.check_numerics(tf.cast(squared_norms, tf.float32), OVERFLOW)
    with tf.control_dependencies([checked]):
        return tf.identity(squared_norms)


def wide(value: tf.Tensor) -> tf.Tensor:
    """Casts to float64, in which norms and sums over rows are computed."""
    return tf.cast(value, tf.float64)


def clean_rows(factors: Factors, value: tf.Tensor) -> tf.Tensor:
    """Returns `value` `[B, ...]` with the rows that are not finite set to zero.

    A factor of zero does not remove them: zero times infinity is NaN. Costs nothing if all rows
    are finite, which is nearly always the case.
    """
    return tf.cond(factors.all_finite, lambda: value, lambda: zero_rows(factors.finite, value))


def zero_rows(keep: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns `value` with each row zero where `keep` `[B]` is False, even if not finite."""
    shape = tf.concat([tf.shape(keep), tf.ones([tf.rank(value) - 1], tf.int32)], 0)
    return tf.where(tf.reshape(keep, shape), value, tf.zeros_like(value))


def count_skipped(finite: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Counts the unmasked rows that are not finite, scalar int64."""
    return tf.reduce_sum(tf.cast(_unmasked(finite, mask), tf.int64))


def mark(losses: tf.Tensor, bad: tf.Tensor) -> tf.Tensor:
    """Returns the losses with NaN for the rows that were left out of the update."""
    return tf.where(bad, tf.constant(float("nan"), losses.dtype), losses)


def _unmasked(finite: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Returns `[B]` bool: rows that are not finite and not masked."""
    bad = tf.logical_not(finite)
    return bad if mask is None else tf.logical_and(bad, mask)
