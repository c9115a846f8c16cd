"""tensorflow-privacy's optimizer, statements and per-example gradients.

Its top-level import fails on TensorFlow >= 2.16. The library's own switch for standalone use skips
that import, after which the submodules load; so this is the only module that imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]

import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
from tensorflow_privacy.privacy.dp_query.gaussian_query import GaussianSumQuery  # noqa: E402
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402

from tf_mtl_privacy.errors import UsageError  # noqa: E402
from tf_mtl_privacy.privacy.clipping.request import (  # noqa: E402
    Clipped,
    Request,
    check_squared_norms,
    mark,
    wide,
)
from tf_mtl_privacy.privacy.clipping.vectorized import jacobian_tape  # noqa: E402

_BASES = {"adam": tf_keras.optimizers.legacy.Adam, "sgd": tf_keras.optimizers.legacy.SGD}


def dp_keras_optimizer(rule: str, l2_norm_clip: float, **options: Any) -> Any:
    """Makes tensorflow-privacy's DPKeras optimizer, without its noise and its public updates.

    Update rule, slots and (in `_compute_gradients`) per-example gradients are the library's; one
    example per microbatch. `apply_gradients`, and with it the legacy `minimize`, raises, because
    the library's own check that gradients are private always passes after the first private step.

    Args:
        rule: 'adam' or 'sgd'.
        l2_norm_clip: bound on each example's gradient norm.
        options: for the legacy tf-keras optimizer.
    """
    base = _BASES[rule]
    library_class = dp_optimizer_keras.make_keras_generic_optimizer_class(base)

    class Guarded(library_class):  # type: ignore[misc, valid-type]
        """See `dp_keras_optimizer`."""

        def apply_gradients(self, *args: Any, **kwargs: Any) -> None:
            raise UsageError(
                "apply_gradients: these gradients did not come through clipping and noise; "
                "call minimize of DPAdam or DPSGD"
            )

        def apply_private(self, gradients: Iterable[tuple[tf.Tensor, tf.Variable]]) -> None:
            """Applies gradients that are clipped, summed over replicas and noised."""
            base.apply_gradients(self, gradients, experimental_aggregate_gradients=False)

    return Guarded(dp_sum_query=ClippingQuery(l2_norm_clip), num_microbatches=None, **options)


class ClippingQuery(GaussianSumQuery):
    """Clips like tensorflow-privacy, but in float64; a record that is not finite stops the step.

    The library's float32 norm underflows to 0, or loses small rows of a sum beside large ones, for
    adversarial rows: the sum then moves by more than the clip norm. The query adds no noise,
    because the library's own follows the global seed.
    """

    def __init__(self, l2_norm_clip: float) -> None:
        super().__init__(l2_norm_clip, 0.0)

    def initial_sample_state(self, template: Any = None) -> Any:
        """Returns zeros in float64 for a nest of tensors."""
        return tf.nest.map_structure(lambda part: tf.zeros(part.shape, tf.float64), template)

    def preprocess_record_impl(self, params: Any, record: Any) -> tuple[Any, tf.Tensor]:
        """Clips one example's gradients jointly; returns them and their norm, in float64."""
        gradients = tf.nest.map_structure(wide, record)
        squared = [tf.reduce_sum(tf.square(part)) for part in tf.nest.flatten(gradients)]
        norm = tf.sqrt(check_squared_norms(tf.add_n(squared)))
        clip = wide(params)
        factor = clip / tf.maximum(norm, clip)
        return tf.nest.map_structure(lambda part: part * factor, gradients), norm


def clipped_sum(request: Request, optimizer: Any) -> Clipped:
    """Clips and sums with the library's `_compute_gradients`, whose query adds no noise.

    Args:
        request: the batch.
        optimizer: from `dp_keras_optimizer`.

    Raises:
        tf.errors.InvalidArgumentError: a gradient overflows although all inputs are finite.
    """
    request, bad = request.without_bad_rows()
    with jacobian_tape(request) as tape:
        tape.watch(request.variables)
        losses = request.losses(request.model(request.inputs, training=request.training))
    means = optimizer._compute_gradients(losses, request.variables, tape=tape)
    rows = wide(tf.shape(losses)[0])
    skipped = tf.reduce_sum(tf.cast(bad, tf.int64))
    return Clipped(mark(losses, bad), [mean * rows for mean, _ in means], skipped)


def statement_library() -> Any:
    """Imports tensorflow-privacy's `compute_dp_sgd_privacy_lib`."""
    from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib

    return compute_dp_sgd_privacy_lib
