"""Per-example gradients of grouped convolutions, which TensorFlow cannot vectorise.

Its conversion of a grouped convolution's gradient (`pfor`) gives wrong numbers inside a Jacobian,
and fails where oneDNN is switched off. Such models take a loop over rows instead.

Operations that TensorFlow computes wrongly, or crashes on, when a loop is vectorised over them.

`tf.vectorized_map` puts the loop's axis in front. A product of one row's `[1, T, D]` with a weight
`[D, E]` becomes one of `[B, 1, T, D]` with `[D, E]`, and TensorFlow 2.21's oneDNN kernel of
`BatchMatMulV2` reads and writes outside its buffers for this shape: a segmentation fault, or
values like 1e37 (`tf.matmul(tf.ones([8, 1, 16, 32]), tf.ones([32, 24]))` alone does it). Keras 3
forms such products in `EinsumDense`, `MultiHeadAttention` and `GroupQueryAttention`, and any
`keras.ops.einsum` or `matmul` with a weight may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Refused whatever their shapes: which of them are safe differs between processors.
_UNSAFE = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})


def unsafe_operations(function: Callable[[Any], Any], elements: Any) -> set[str]:
    """Traces a loop's body and lists the operations in it that must not be vectorised.

    Args:
        function: what is to be mapped over the first axis of `elements`; it is traced, not run.
        elements: tensors, nested as `function` takes their rows.

    Returns:
        Names of operations; empty where `tf.vectorized_map` may be used.
    """
    specs = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape[1:], part.dtype), elements)
    traced = tf.function(function, autograph=False).get_concrete_function(specs)
    definition = traced.graph.as_graph_def()
    nodes = list(definition.node)
    for nested in definition.library.function:
        nodes += nested.node_def
    return {node.op for node in nodes} & _UNSAFE


def has_grouped_convolution(model: keras.Model) -> bool:
    """Returns True if a layer is a convolution with more than one group."""
    return any(
        getattr(layer, "groups", 1) != 1 and hasattr(layer, "kernel")
        for layer in model._flatten_layers(include_self=False, recursive=True)
    )


class LoopTape(tf.GradientTape):
    """A tape that computes Jacobians by a loop instead of by vectorisation."""

    def jacobian(self, target: Any, sources: Any, **options: Any) -> Any:
        """Returns the Jacobian; arguments as for `tf.GradientTape`."""
        return super().jacobian(
            target, sources, **options | {"experimental_use_pfor": False, "parallel_iterations": 1}
        )


def jacobian_tape(model: keras.Model) -> tf.GradientTape:
    """Returns a tape for one Jacobian of the model's outputs."""
    kind = LoopTape if has_grouped_convolution(model) else tf.GradientTape
    return kind(persistent=kind is LoopTape, watch_accessed_variables=False)


def map_rows(
    model: keras.Model, function: Callable[..., list[tf.Tensor]], rows: Any, shapes: list[Any]
) -> list[tf.Tensor]:
    """Returns a function's results for each row, stacked; vectorised where that is safe.

    Args:
        model: used in the function.
        function: one element of each tensor in `rows` -> float32 tensors.
        rows: a nest of tensors `[B, ...]`.
        shapes: of the function's results.
    """
    if not has_grouped_convolution(model) and not unsafe_operations(function, rows):
        return tf.vectorized_map(function, rows)
    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.map_fn(function, rows, fn_output_signature=signature, parallel_iterations=1)
