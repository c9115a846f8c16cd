"""Sums of clipped per-example gradients, by three backends that agree to float accuracy.

- `ghost` never forms per-example gradients; it needs a rule for each kind of layer (`rules`).
- `vectorized` forms them for any row-wise Keras model.
- `per_example` takes them from tensorflow-privacy, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.errors import UsageError

if TYPE_CHECKING:
    import keras

    from tf_mtl_privacy.privacy.clipping.request import Clipped, Request

BACKENDS = ("ghost", "vectorized", "per_example")


def make_backend(name: str, model: keras.Model, optimizer: Any) -> Callable[[Request], Clipped]:
    """Returns a backend after checking that it supports the model.

    Args:
        name: one of `BACKENDS`.
        model: the model that requests will name.
        optimizer: from `dp_keras_optimizer`; `per_example` uses its gradients.

    Raises:
        UsageError: unknown backend, or one that does not support this model.
    """
    if name == "ghost":
        from tf_mtl_privacy.privacy.clipping import ghost

        ghost.check(model)
        return ghost.clipped_sum
    if name == "vectorized":
        from tf_mtl_privacy.privacy.clipping import vectorized

        return vectorized.clipped_sum
    if name == "per_example":
        from tf_mtl_privacy.privacy import tfp

        return lambda request: tfp.clipped_sum(request, optimizer)
    raise UsageError(f"clipping={name!r}: expected one of {', '.join(BACKENDS)}")
