"""tensorflow-privacy's own per-example gradients, clipped by `tfp.ClippingQuery`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.grouped import jacobian_tape
from tf_mtl_privacy.privacy.clipping.request import (
    Clipped,
    Request,
    mark,
    wide,
)


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
