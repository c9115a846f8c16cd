"""Updates of `--dp_scope=all`: every trained weight moves by DP-SGD, on a frozen backbone.

Source: paper, section 3.2, steps 2 and 3, whose losses these are. Three networks learn in the
joint phase, each from a Poisson batch of its own: counted as three sampled events they cost less
than as one event on a shared batch, whose noises would merge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.config import LossConfig
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training import losses
from tf_mtl_privacy.training.steps import Metrics, ScaleGradient, UpdateFunction
from tf_mtl_privacy.types import Batch

Restoration = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Step = Callable[[tf.Tensor, Batch], Metrics]


def trained_encoder(adapter: keras.Model, business: keras.Model, alpha: float) -> keras.Model:
    """Adapter and classifier as one network: what the encoder's private update trains.

    Args:
        adapter: backbone features -> features.
        business: features -> task name -> logits.
        alpha: scales the classifier's gradient where it enters the features; its own weights get
            all of it.

    Returns:
        backbone features -> {"features": `[B, h, w, c]`, "logits": {task: `[B, classes]`}}.
    """
    inputs = keras.Input(adapter.input_shape[1:], name="backbone_features")
    features = adapter(inputs)
    logits = business(ScaleGradient(alpha, name="alpha")(features))
    return keras.Model(inputs, {"features": features, "logits": logits}, name="trained_encoder")


def make_private_business_step(optimizer: DPAdam) -> Step:
    """Pre-trains adapter and classifier on B_Loss (step 2); `optimizer` is of `trained_encoder`.

    The adapter's gradient is already scaled by alpha here, which only weighs it against the
    classifier's in the clipping.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def step(kept: tf.Tensor, batch: Batch) -> Metrics:
        values = optimizer.minimize(
            kept,
            lambda outputs: losses.business_loss(outputs["logits"], batch.business),
            mask=batch.mask,
        )
        return {"business_loss": losses.masked_mean(values, batch.mask)}

    return step


def make_private_discriminator_step(adapter: keras.Model, update: UpdateFunction) -> Step:
    """One private update of the discriminator (steps 2 and 3.3), the adapter fixed."""

    @tf.function(autograph=False, reduce_retracing=True)
    def step(kept: tf.Tensor, batch: Batch) -> Metrics:
        features = adapter(kept, training=False)
        return {"discriminator_loss": update(features, batch.private, batch.mask)}

    return step


def make_private_restorer_step(
    adapter: keras.Model, optimizer: DPAdam, restoration: Restoration
) -> Step:
    """One private update of the restorer on R_Loss (steps 2 and 3), the adapter fixed."""

    @tf.function(autograph=False, reduce_retracing=True)
    def step(kept: tf.Tensor, batch: Batch) -> Metrics:
        values = optimizer.minimize(
            adapter(kept, training=False),
            lambda restored: restoration(restored, to_float(batch.image)),
            mask=batch.mask,
        )
        return {"restoration_loss": losses.masked_mean(values, batch.mask)}

    return step


def make_private_encoder_step(
    discriminator: keras.Model,
    restorer: keras.Model,
    config: LossConfig,
    optimizer: DPAdam,
    restoration: Restoration,
    *,
    play: bool,
) -> Callable[[tf.Tensor, Batch, tf.Tensor], Metrics]:
    """The joint phase's private update of adapter and classifier (step 3), D and R fixed.

    Per example: alpha * B_Loss + beta * (adversarial objective) + gamma * R_Loss for the adapter,
    B_Loss alone for the classifier; clipped together.
    """
    objective = losses.adversarial_objective(config.objective)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(kept: tf.Tensor, batch: Batch, beta: tf.Tensor) -> Metrics:
        def total(outputs: Any) -> tf.Tensor:
            features = outputs["features"]
            value = losses.business_loss(outputs["logits"], batch.business)
            if play:
                logits = discriminator(features, training=False)
                value += beta * objective(logits, batch.private)
            if config.gamma > 0:
                restored = restorer(features, training=False)
                value += config.gamma * restoration(restored, to_float(batch.image))
            return value

        values = optimizer.minimize(kept, total, mask=batch.mask)
        return {"encoder_loss": losses.masked_mean(values, batch.mask)}

    return step
