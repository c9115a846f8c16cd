"""Per-example gradients of grouped convolutions, which TensorFlow cannot vectorise.

Its conversion of a grouped convolution's gradient (`pfor`) gives wrong numbers inside a Jacobian,
and fails where oneDNN is switched off. Such models take a loop over rows instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.vectorizable import unsafe_operations


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
