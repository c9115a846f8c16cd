"""The only door to tensorflow_privacy, whose top-level import fails on TensorFlow >= 2.16.

Its own switch for standalone use skips that import, after which the submodules load.
"""

from __future__ import annotations

import sys
from typing import Any

sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]

import tf_keras  # noqa: E402
from tensorflow_privacy.privacy.dp_query.gaussian_query import GaussianSumQuery  # noqa: E402
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402


def dp_keras_adam(l2_norm_clip: float, noise_multiplier: float, learning_rate: float) -> Any:
    """tensorflow-privacy's `DPKerasAdamOptimizer`, one example per microbatch.

    It is put together from the library's two halves that are not deprecated, over the legacy Adam
    of tf-keras, which is the base class it was written for.
    """
    kind = dp_optimizer_keras.make_keras_generic_optimizer_class(tf_keras.optimizers.legacy.Adam)
    query = GaussianSumQuery(l2_norm_clip, l2_norm_clip * noise_multiplier)
    return kind(dp_sum_query=query, num_microbatches=None, learning_rate=learning_rate)
