"""Operations that TensorFlow computes wrongly, or crashes on, when a loop is vectorised over them.

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
