"""Per-example gradients of any row-wise Keras model; costs memory rows x weights.

All rows at once by `tf.vectorized_map` where that is known to be right, else one row after the
other; see `grouped.map_rows`.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.contribution import instantiated
from tf_mtl_privacy.privacy.clipping.request import (
    Clipped,
    Request,
    check_squared_norms,
    clip_factors,
    count_skipped,
    mark,
)
from tf_mtl_privacy.privacy.clipping.row_map import jacobian_tape, map_rows


def clipped_sum(request: Request) -> Clipped:
    """Clips and sums instantiated per-example gradients.

    Raises:
        tf.errors.InvalidArgumentError: in a model that draws random numbers, a gradient overflows
            although all inputs are finite.
    """
    fragile = draws_random_numbers(request.model)
    if fragile:
        request, bad = request.without_bad_rows()
        losses, gradients = _by_jacobian(request)
        losses, skipped = mark(losses, bad), tf.reduce_sum(tf.cast(bad, tf.int64))
    else:
        losses, gradients = _by_rows(request)
        skipped = tf.constant(0, tf.int64)
    parts = [instantiated(v, g) for v, g in zip(request.variables, gradients, strict=True)]
    squared = tf.add_n([part.squared_norms for part in parts])
    if fragile:
        squared = check_squared_norms(squared)
    factors = clip_factors(squared, request.clip, request.mask)
    sums = [part.weighted_sum(factors) for part in parts]
    return Clipped(losses, sums, skipped + count_skipped(factors.finite, request.mask))


def draws_random_numbers(model: keras.Model) -> bool:
    """Whether a layer such as Dropout draws random numbers: two passes would then differ."""
    return any(
        getattr(layer, "_seed_generators", None)
        for layer in model._flatten_layers(include_self=False, recursive=True)
    )


def _by_rows(request: Request) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Each row by itself through the model.

    The loss may hold labels of the whole batch, so its gradient at the outputs is taken first.
    """
    model, training = request.model, request.training
    outputs = model(request.inputs, training=training)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tf.nest.flatten(outputs))
        losses = request.losses(outputs)
    flat = tf.nest.flatten(outputs)
    deltas = tape.gradient(losses, flat, unconnected_gradients="zero")

    def one(row: tuple) -> list[tf.Tensor]:
        inputs = tf.nest.map_structure(lambda part: part[tf.newaxis], row[0])
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(request.variables)
            outs = tf.nest.flatten(model(inputs, training=training))
        gradients = inner.gradient(
            outs,
            request.variables,
            output_gradients=[delta[tf.newaxis] for delta in row[1]],
            unconnected_gradients="zero",
        )
        # An Embedding's gradient is sparse.
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    rows = (request.inputs, deltas)
    shapes = [variable.shape for variable in request.variables]
    return losses, map_rows(model, one, rows, shapes)


def _by_jacobian(request: Request) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """One forward pass, then one backward pass of the whole batch per row: slow but faithful."""
    with jacobian_tape(request.model) as tape:
        tape.watch(request.variables)
        losses = request.losses(request.model(request.inputs, training=request.training))
    gradients = tape.jacobian(losses, request.variables, unconnected_gradients="zero")
    # With a batch of unknown size it may know no shapes.
    pairs = zip(gradients, request.variables, strict=True)
    return losses, [tf.reshape(gradient, [-1, *v.shape]) for gradient, v in pairs]
