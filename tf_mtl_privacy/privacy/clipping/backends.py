"""The clipping backends by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping import ghost, per_example, vectorized
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request

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
        return lambda request: per_example.clipped_sum(request, optimizer)
    raise UsageError(f"clipping={name!r}: expected one of {', '.join(BACKENDS)}")
