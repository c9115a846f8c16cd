"""The shipped private update, made for an audit, and what it lets an attacker see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.privacy.optimizer import DPAdam, DPOptimizer


class UpdateSettings(NamedTuple):
    """What a private optimizer is made with.

    Attributes:
        l2_norm_clip: C, > 0.
        noise_multiplier: z >= 0; the noise on the sum has standard deviation z C.
        expected_batch_size: what the sum is divided by, > 0.
        clipping: 'ghost', 'vectorized' or 'per_example'.
        noise_key: None for the operating system's; a number for tests.
    """

    l2_norm_clip: float
    noise_multiplier: float
    expected_batch_size: float
    clipping: str = "ghost"
    noise_key: int | None = None


MakeOptimizer = Callable[[keras.Model, UpdateSettings], DPOptimizer]


def shipped_optimizer(model: keras.Model, settings: UpdateSettings) -> DPOptimizer:
    """`DPAdam` as training makes it, but for beta_1 = 0: its first moment is then the gradient."""
    return DPAdam(
        model,
        learning_rate=0.0,
        beta_1=0.0,
        allow_zero_noise=settings.noise_multiplier == 0,
        **settings._asdict(),
    )


def released_gradient(optimizer: DPOptimizer, model: keras.Model) -> list[tf.Variable]:
    """The variables that hold the last noised gradient: Adam's first moments at beta_1 = 0.

    A checkpoint has them, so that they are part of what an attacker may see.
    """
    count = len(model.trainable_variables)
    # The step counter comes first, then all first moments, then all second moments.
    return list(optimizer.variables[1 : 1 + count])


def noise_key(key: SecretKey, name: str) -> int | None:
    """A repeatable key where `key` is a test's; None, so that the noise is secret, elsewhere."""
    return int(key.derive(f"noise/{name}").words(1)[0]) if key.is_test else None


def as_array(tensor: Any) -> Any:
    """NumPy float64 of a tensor."""
    return tensor.numpy().astype("float64")
