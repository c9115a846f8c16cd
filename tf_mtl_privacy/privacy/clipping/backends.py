"""The clipping backends by name.

tensorflow-privacy's own per-example gradients, clipped by `tfp.ClippingQuery`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping import ghost, vectorized
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, mark, wide
from tf_mtl_privacy.privacy.clipping.row_map import jacobian_tape


def clipped_sum(request: Request, optimizer: Any) -> Clipped:
    """Clips and sums with the library's `_compute_gradients`, whose query adds no noise.

    Args:
        request: what to clip.
        optimizer: from `dp_keras_optimizer`.

    Raises:
        tf.errors.InvalidArgumentError: a gradient overflows although all inputs are finite.
    """
    request, bad = request.without_bad_rows()
    with jacobian_tape(request.model) as tape:
        tape.watch(request.variables)
        losses = request.losses(request.model(request.inputs, training=request.training))
    means = optimizer._compute_gradients(losses, request.variables, tape=tape)
    rows = wide(tf.shape(losses)[0])
    skipped = tf.reduce_sum(tf.cast(bad, tf.int64))
    sums = [mean * rows for mean, _ in means]
    return Clipped(mark(losses, bad), sums, skipped)


BACKENDS = ("ghost", "vectorized", "per_example")


def make_backend(name: str, model: keras.Model, optimizer: Any) -> Callable[[Request], Clipped]:
    """The backend called `name`, after it has looked at the model.

    Args:
        name: one of `BACKENDS`.
        model: the model that requests will name.
        optimizer: from `dp_keras_optimizer`; `per_example` lets it compute.

    Raises:
        UsageError: there is no such backend, or it cannot do this model.
    """
    if name == "ghost":
        ghost.check(model)
        return ghost.clipped_sum
    if name == "vectorized":
        return vectorized.clipped_sum
    if name == "per_example":
        return lambda request: clipped_sum(request, optimizer)
    raise UsageError(f"clipping={name!r}: expected one of {', '.join(BACKENDS)}")
