"""A DP optimizer for one kind of private update."""

from __future__ import annotations

import keras

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training.private_updates import Update


def private_adam(
    config: Config,
    model: keras.Model,
    name: str,
    update: Update,
    key: SecretKey,
    learning_rate: float,
) -> DPAdam:
    """Adam with the noise, clip norm and divisor of an update.

    Args:
        config: the run's configuration.
        model: what is trained.
        name: the update's name.
        update: what the accounting knows of it.
        key: makes the noise repeatable where it is a test's; else the noise has a key of its own.
        learning_rate: Adam's step size, > 0.

    Raises:
        UsageError: the model cannot be trained privately; see `privacy.guards`.
    """
    noise_key = int(key.derive(f"noise/{name}").words(1)[0]) if key.is_test else None
    return DPAdam(
        model,
        learning_rate=learning_rate,
        l2_norm_clip=config.privacy.l2_norm_clip,
        noise_multiplier=update.mechanism.noise_multiplier,
        expected_batch_size=update.batch_size,
        clipping=config.privacy.clipping,
        allow_zero_noise=config.privacy.allow_zero_noise,
        noise_key=noise_key,
    )
