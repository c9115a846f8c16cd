"""Per-example gradients of any row-wise Keras model; memory is rows times weights.

All rows are computed at once where TensorFlow's vectorisation (`pfor`) is known to be right, else
one after the other. The traced graph shows two kinds of operations for which it is not:

- `tf.vectorized_map` puts the loop's axis in front. A product of one row's `[1, T, D]` with a
  weight `[D, E]` becomes one of `[B, 1, T, D]` with `[D, E]`, and TensorFlow 2.21's oneDNN kernel
  of `BatchMatMulV2` reads and writes outside its buffers for this shape: a segmentation fault, or
  values like 1e37 (`tf.matmul(tf.ones([8, 1, 16, 32]), tf.ones([32, 24]))` is enough). Keras 3
  forms such products in `EinsumDense`, `MultiHeadAttention` and `GroupQueryAttention`, and any
  `keras.ops.einsum` or `matmul` with a weight may.
- The gradient of a grouped convolution is converted to one with wrong numbers inside a Jacobian,
  and the conversion fails without oneDNN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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

# Refused whatever their shapes, because which of them are safe differs between processors.
_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
_CONVOLUTIONS = frozenset({"Conv2D", "Conv3D"})
GROUPED = "grouped convolution"


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
    """Returns True if a layer such as Dropout draws random numbers, so that two passes differ."""
    return any(
        getattr(layer, "_seed_generators", None)
        for layer in model._flatten_layers(include_self=False, recursive=True)
    )


def _by_rows(request: Request) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs each row through the model by itself.

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
    if not unsafe_operations(one, rows):
        return losses, tf.vectorized_map(one, rows)
    signature = [tf.TensorSpec(variable.shape, tf.float32) for variable in request.variables]
    loop = tf.map_fn(one, rows, fn_output_signature=signature, parallel_iterations=1)
    return losses, loop


def _by_jacobian(request: Request) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Takes one forward pass, then one backward pass of the whole batch per row: slow but exact."""
    with jacobian_tape(request) as tape:
        tape.watch(request.variables)
        losses = request.losses(request.model(request.inputs, training=request.training))
    gradients = tape.jacobian(losses, request.variables, unconnected_gradients="zero")
    # Shapes may be lost if the batch size is unknown.
    pairs = zip(gradients, request.variables, strict=True)
    return losses, [tf.reshape(gradient, [-1, *v.shape]) for gradient, v in pairs]


def jacobian_tape(request: Request) -> tf.GradientTape:
    """Returns a tape for one Jacobian of the losses of the request's model."""
    model, training = request.model, request.training
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), request.inputs)
    grouped = GROUPED in _operations(lambda inputs: model(inputs, training=training), specs)
    kind = LoopTape if grouped else tf.GradientTape
    return kind(persistent=grouped, watch_accessed_variables=False)


class LoopTape(tf.GradientTape):
    """A tape that computes Jacobians by a loop instead of by vectorisation."""

    def jacobian(self, target: Any, sources: Any, **options: Any) -> Any:
        """Returns the Jacobian; arguments as for `tf.GradientTape`."""
        return super().jacobian(
            target, sources, **options | {"experimental_use_pfor": False, "parallel_iterations": 1}
        )


def unsafe_operations(function: Callable[[Any], Any], elements: Any) -> set[str]:
    """Finds the operations in a loop's body that must not be vectorised.

    Args:
        function: to be mapped over the first axis of `elements`; it is traced, not run.
        elements: tensors, nested as `function` takes their rows.

    Returns:
        Types of operations and `GROUPED`; empty if `tf.vectorized_map` may be used.
    """
    specs = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape[1:], part.dtype), elements)
    return set(_operations(function, specs)) & (_PRODUCTS | {GROUPED})


def _operations(function: Callable[[Any], Any], specs: Any) -> Iterator[str]:
    """Yields the types of operations in a function's graph, nested functions included.

    A convolution whose input has other channels than its kernel is `GROUPED`.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(specs)
    functions = traced.graph._functions.items()
    nested = {name: getattr(function, "graph", None) for name, function in functions}
    for graph in (traced.graph, *filter(None, nested.values())):
        for operation in graph.get_operations():
            yield GROUPED if _is_grouped(operation) else operation.type
    # Functions without a Python graph have no shapes: their convolutions may be grouped.
    for definition in traced.graph.as_graph_def().library.function:
        if nested.get(definition.signature.name) is None:
            for node in definition.node_def:
                yield GROUPED if node.op in _CONVOLUTIONS else node.op


def _is_grouped(operation: tf.Operation) -> bool:
    if operation.type not in _CONVOLUTIONS:
        return False
    inputs, kernel = (tensor.shape for tensor in operation.inputs[:2])
    if inputs.rank is None or kernel.rank is None:
        return True
    axis = 1 if operation.get_attr("data_format").startswith(b"NC") else -1
    return inputs[axis] is None or inputs[axis] != kernel[-2]
