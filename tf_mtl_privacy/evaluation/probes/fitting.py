"""Trains one network that attacks, and gives its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import Model, optimizers

from tf_mtl_privacy.evaluation.probes.data import (
    Array,
    ClassScores,
    ProbeData,
    balanced_accuracy,
    row_weights,
)
from tf_mtl_privacy.evaluation.probes.inputs import ChannelMap
from tf_mtl_privacy.evaluation.probes.settings import BATCH, passes


def fit_network(
    model: Model,
    data: ProbeData,
    channels: ChannelMap,
    *,
    epochs: int,
    batch_size: int = BATCH,
    least_updates: int = 0,
    rate: float = 2e-3,
    enough: float = 0.99,
    seed: int,
) -> ClassScores:
    """Trains a network for a fixed time and answers with the epoch that read validation rows best.

    It is never stopped because it learns nothing: such a network can sit at chance for epochs
    before it does, and what stops it there takes a plateau for protection. It ends once it reads
    nearly everything.

    Args:
        model: rows -> logits `[B, K]`; trained in place.
        data: the rows.
        channels: what is done to each row before the network reads it.
        epochs: passes over the training rows, > 0.
        batch_size: rows in an update; fewer where a quarter of the training rows are fewer.
        least_updates: more passes where these are fewer updates.
        rate: Adam's largest step size; it rises over the first epoch and falls along a cosine.
        enough: balanced accuracy on validation rows at which training stops: further passes have
            next to nothing to find.
        seed: of the order of rows.
    """
    rng = np.random.default_rng(seed)
    batch, steps, epochs = passes(len(data.train), batch_size, epochs, least_updates)
    schedule = optimizers.schedules.CosineDecay(
        rate / 20, max((epochs - 1) * steps, 1), warmup_target=rate, warmup_steps=steps
    )
    step, answer = _graphs(model, optimizers.Adam(schedule), channels)
    weights = row_weights(data.train_labels, data.classes)
    best: tuple[float, Array, list[Array]] | None = None
    for _ in range(epochs):
        order = rng.permutation(len(data.train))
        for start in range(0, steps * batch, batch):
            rows = order[start : start + batch]
            step(data.train[rows], data.train_labels[rows], weights[rows])
        found = _answers(answer, data.validation)
        score = balanced_accuracy(found, data.validation_labels)
        if best is None or score >= best[0]:
            best = score, found, model.get_weights()
        if score >= enough:
            break
    assert best is not None
    model.set_weights(best[2])
    return ClassScores(best[1], _answers(answer, data.test))


def _graphs(
    model: Model, optimizer: optimizers.Optimizer, channels: ChannelMap
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(one update, logits of rows) as compiled functions."""
    offset, matrix = tf.constant(channels.offset), tf.constant(channels.matrix)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(rows: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model(tf.linalg.matmul(rows - offset, matrix), training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses * weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(rows: tf.Tensor) -> tf.Tensor:
        return model(tf.linalg.matmul(rows - offset, matrix), training=False)

    return step, answer


def _answers(answer: Callable[..., Any], rows: Array, batch: int = 256) -> Array:
    parts = [answer(rows[start : start + batch]).numpy() for start in range(0, len(rows), batch)]
    return np.concatenate(parts)
