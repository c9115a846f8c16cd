"""Single updates as `tf.function`s: losses, trained variables, optimizers.

A factory closes over networks and optimizers; the step that it returns takes tensors and returns
the batch's mean losses. The steps named `private` are those of `--dp_scope=all`, in which every
trained weight moves by DP-SGD on a frozen backbone. Three networks learn there in the joint phase,
each from a Poisson batch of its own: three sampled events cost less than one event on a shared
batch with merged noise.

Source: paper, section 3.2, steps 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.config import LossConfig
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models import losses
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.privacy.optimizer import DPAdam, DPOptimizer
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.types import Batch

Metrics = dict[str, tf.Tensor]
UpdateFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Restoration = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
PrivateStep = Callable[[tf.Tensor, Batch], Metrics]


def make_business_step(
    bundle: Bundle, optimizer: keras.optimizers.Optimizer
) -> Callable[[Batch], Metrics]:
    """Makes the step that pre-trains encoder and classifier on B_Loss (step 2).

    BatchNorm, if any, learns in this step only.
    """
    variables = bundle.encoder.trainable_variables + bundle.business.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: Batch) -> Metrics:
        with tf.GradientTape() as tape:
            features = bundle.encoder(to_float(batch.image), training=True)
            logits = bundle.business(features, training=True)
            loss = losses.masked_mean(losses.business_loss(logits, batch.business), batch.mask)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"business_loss": loss}

    return step


def make_discriminator_update(
    discriminator: keras.Model, optimizer: DPOptimizer | keras.optimizers.Optimizer
) -> UpdateFunction:
    """Makes one update of the discriminator on given features; the encoder gets no gradient.

    With a DP optimizer it is a DP-SGD update (steps 2 and 3.3), else plain Adam on the mean loss.
    The update returns the mean cross-entropy over the rows with a known label.
    """
    if not isinstance(optimizer, DPOptimizer):
        optimizer.build(discriminator.trainable_variables)

    def update(features: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        features = tf.stop_gradient(features)
        known = tf.logical_and(mask, labels >= 0)
        if isinstance(optimizer, DPOptimizer):
            values = optimizer.minimize(
                features, lambda logits: losses.cross_entropy(logits, labels), mask=known
            )
            return losses.masked_mean(values, known)
        variables = discriminator.trainable_variables
        with tf.GradientTape() as tape:
            logits = discriminator(features, training=True)
            loss = losses.masked_mean(losses.cross_entropy(logits, labels), known)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return update


def make_discriminator_step(update: UpdateFunction) -> Callable[..., Metrics]:
    """Makes the step that pre-trains the discriminator on cached encoder features (step 2)."""

    @tf.function(autograph=False, reduce_retracing=True)
    def step(features: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> Metrics:
        return {"discriminator_loss": update(features, labels, mask)}

    return step


def make_restorer_step(
    restorer: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    restoration: Restoration,
) -> Callable[..., Metrics]:
    """Makes the step that pre-trains the restorer on cached encoder features (step 2)."""
    variables = restorer.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(features: tf.Tensor, image: tf.Tensor, mask: tf.Tensor) -> Metrics:
        with tf.GradientTape() as tape:
            restored = restorer(features, training=True)
            loss = losses.masked_mean(restoration(restored, to_float(image)), mask)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"restoration_loss": loss}

    return step


def make_restoration_loss(config: LossConfig, perceptual: PerceptualLoss) -> Restoration:
    """Makes R_Loss per example: weighted squared error plus perceptual loss (step 2)."""

    def restoration(restored: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        value = config.reconstruction_weight * losses.squared_error(restored, image)
        if perceptual.is_on and config.perceptual_weight > 0:
            value += config.perceptual_weight * perceptual(restored, image)
        return value

    return restoration


def make_adversarial_step(
    bundle: Bundle,
    config: LossConfig,
    optimizer: keras.optimizers.Optimizer,
    update_discriminator: UpdateFunction | None,
    restoration: Restoration,
    *,
    play: bool,
    others: Sequence[keras.Model] = (),
) -> Callable[[Batch, tf.Tensor], Metrics]:
    """Makes the joint update (step 3): encoder forward, D's update, then E, B and R from one tape.

    E descends alpha * B_Loss + beta * (its adversarial objective) + gamma * R_Loss; B gets only
    B_Loss and R only R_Loss, because the weights are applied where each head's gradient enters
    the features. D is fixed in that part; with `others` the objective is the mean over D and them.
    Heads that the bundle lacks are left out, and so is the adversarial part if `play` is False.
    BatchNorm runs in inference mode, so that no row changes another row's features.
    """
    heads = [bundle.encoder, bundle.business] + ([bundle.restorer] if bundle.restorer else [])
    variables = [variable for model in heads for variable in model.trainable_variables]
    optimizer.build(variables)
    opponents = [bundle.discriminator, *others] if play else []

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: Batch, beta: tf.Tensor) -> Metrics:
        image = to_float(batch.image)
        metrics: Metrics = {}
        with tf.GradientTape() as tape:
            features = bundle.encoder(image, training=False)
            if update_discriminator is not None:
                with tape.stop_recording():
                    metrics["discriminator_loss"] = update_discriminator(
                        features, batch.private, batch.mask
                    )
            logits = bundle.business(scale_gradient(features, config.alpha), training=True)
            business = losses.masked_mean(losses.business_loss(logits, batch.business), batch.mask)
            metrics["business_loss"] = total = business
            if opponents:
                scaled = scale_gradient(features, beta)
                adversarial = tf.add_n([_objective(d, scaled, batch, config) for d in opponents])
                adversarial /= float(len(opponents))
                metrics["adversarial_objective"] = adversarial
                total += adversarial
            if bundle.restorer is not None:
                restored = bundle.restorer(scale_gradient(features, config.gamma), training=True)
                restoring = losses.masked_mean(restoration(restored, image), batch.mask)
                metrics["restoration_loss"] = restoring
                total += restoring
        optimizer.apply(tape.gradient(total, variables), variables)
        return metrics

    return step


def _objective(
    discriminator: keras.Model, features: tf.Tensor, batch: Batch, config: LossConfig
) -> tf.Tensor:
    """Computes the encoder's objective against one discriminator, a scalar.

    It is the mean over the real rows, or over the labelled ones if the objective reads labels.
    """
    logits, rows = discriminator(features, training=False), batch.mask
    if config.objective_reads_labels:
        rows = tf.logical_and(rows, batch.private >= 0)
    objective = losses.adversarial_objective(config.objective)
    return losses.masked_mean(objective(logits, batch.private), rows)


def trained_encoder(adapter: keras.Model, business: keras.Model, alpha: float) -> keras.Model:
    """Joins adapter and classifier into the network that the encoder's private update trains.

    Args:
        adapter: backbone features -> features.
        business: features -> task name -> logits.
        alpha: scales the classifier's gradient where it enters the features; the classifier's own
            weights get the unscaled gradient.

    Returns:
        backbone features -> {"features": `[B, h, w, c]`, "logits": {task: `[B, classes]`}}.
    """
    inputs = keras.Input(adapter.input_shape[1:], name="backbone_features")
    features = adapter(inputs)
    logits = business(ScaleGradient(alpha, name="alpha")(features))
    return keras.Model(inputs, {"features": features, "logits": logits}, name="trained_encoder")


def make_private_business_step(optimizer: DPAdam) -> PrivateStep:
    """Makes the step that pre-trains adapter and classifier on B_Loss (step 2).

    `optimizer` is made for `trained_encoder`. The adapter's gradient is scaled by alpha here too,
    which only changes its share of the clipped gradient.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def step(cached: tf.Tensor, batch: Batch) -> Metrics:
        values = optimizer.minimize(
            cached,
            lambda outputs: losses.business_loss(outputs["logits"], batch.business),
            mask=batch.mask,
        )
        return {"business_loss": losses.masked_mean(values, batch.mask)}

    return step


def make_private_discriminator_step(adapter: keras.Model, update: UpdateFunction) -> PrivateStep:
    """Makes one private update of the discriminator (steps 2 and 3.3) with a fixed adapter."""

    @tf.function(autograph=False, reduce_retracing=True)
    def step(cached: tf.Tensor, batch: Batch) -> Metrics:
        features = adapter(cached, training=False)
        return {"discriminator_loss": update(features, batch.private, batch.mask)}

    return step


def make_private_restorer_step(
    adapter: keras.Model, optimizer: DPAdam, restoration: Restoration
) -> PrivateStep:
    """Makes one private update of the restorer on R_Loss (steps 2 and 3) with a fixed adapter."""

    @tf.function(autograph=False, reduce_retracing=True)
    def step(cached: tf.Tensor, batch: Batch) -> Metrics:
        values = optimizer.minimize(
            adapter(cached, training=False),
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
    """Makes the joint phase's private update of adapter and classifier (step 3), D and R fixed.

    Per example: alpha * B_Loss + beta * (adversarial objective) + gamma * R_Loss for the adapter,
    B_Loss alone for the classifier; clipped together.
    """
    objective = losses.adversarial_objective(config.objective)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(cached: tf.Tensor, batch: Batch, beta: tf.Tensor) -> Metrics:
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

        values = optimizer.minimize(cached, total, mask=batch.mask)
        return {"encoder_loss": losses.masked_mean(values, batch.mask)}

    return step


def scale_gradient(value: tf.Tensor, scale: tf.Tensor | float) -> tf.Tensor:
    """Returns `value` and multiplies the gradient that flows back through it by `scale`.

    It lets one backward pass give the encoder `alpha * dB + beta * dA + gamma * dR` while each
    head gets the plain gradient of its own loss (paper, section 3.2, step 3.3).

    Args:
        value: any float tensor.
        scale: a scalar; it gets no gradient.
    """
    scale = tf.cast(scale, value.dtype)

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        return tf.identity(x), lambda upstream: upstream * scale

    return forward(value)


class ScaleGradient(keras.layers.Layer):
    """`scale_gradient` as a layer, for functional models.

    Args:
        scale: of the gradient, finite.
        name: the layer's name.
    """

    def __init__(self, scale: float, name: str | None = None) -> None:
        super().__init__(name=name)
        self._scale = scale

    def call(self, value: tf.Tensor) -> tf.Tensor:
        """Returns `value` unchanged."""
        return scale_gradient(value, self._scale)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return input_shape
