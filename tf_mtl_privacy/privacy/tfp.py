"""The only door to tensorflow_privacy, whose top-level import fails on TensorFlow >= 2.16.

Its own switch for standalone use skips that import, after which the submodules load.
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
from tf_mtl_privacy.privacy.clipping.request import check_squared_norms, wide  # noqa: E402

_BASES = {"adam": tf_keras.optimizers.legacy.Adam, "sgd": tf_keras.optimizers.legacy.SGD}


class ClippingQuery(GaussianSumQuery):
    """Clips like tensorflow-privacy, in float64; a record that is not finite stops the step.

    The library's float32 norm underflows to 0, or loses small rows of a sum beside large ones, for
    rows that are built for it: the sum then moves by more than the clip norm. It adds no noise
    here: the library's own follows the global seed.
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


def dp_keras_optimizer(rule: str, l2_norm_clip: float, **options: Any) -> Any:
    """tensorflow-privacy's DPKeras optimizer without its noise and with its front doors shut.

    Update rule, slots and (in `_compute_gradients`) per-example gradients are the library's; one
    example per microbatch. `apply_gradients`, and with it the legacy `minimize`, raises: the
    library's own check that gradients are private stays satisfied for ever after the first private
    step.

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
            """The plain update; for gradients that are clipped, summed over replicas, noised."""
            base.apply_gradients(self, gradients, experimental_aggregate_gradients=False)

    return Guarded(dp_sum_query=ClippingQuery(l2_norm_clip), num_microbatches=None, **options)


def statement_library() -> Any:
    """tensorflow-privacy's `compute_dp_sgd_privacy_lib`, loaded when it is first asked for."""
    from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib

    return compute_dp_sgd_privacy_lib
