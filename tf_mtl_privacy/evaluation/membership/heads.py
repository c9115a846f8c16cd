"""LiRA on heads over the fixed encoder: cheap, and weaker than shadows of the whole model.

The shadows share the attacked encoder, which saw the members. What is measured is what the head
remembers, not what the encoder does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.scores import scaled_logits
from tf_mtl_privacy.evaluation.membership.shadows import seen_by
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.training.losses import business_loss

Array = np.ndarray[Any, Any]
ATTACKS = {"lira_heads_offline": lira.offline, "lira_heads_online": lira.online}
_BATCH, _RATE = 128, 2e-3


def head_scores(
    business: keras.Model,
    features: Array,
    labels: dict[str, Array],
    members: int,
    heads: int,
    epochs: int,
    seed: int,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """Attack -> `[N]` scores of a pool of rows, members first.

    Each head has B's shape and is trained on half of the pool or more (see `seen_by`). As the
    attacked head was trained longer, on other rows, its logits are first put on the heads' scale:
    for each task the same mean and deviation over the whole pool, which says nothing of who is a
    member.

    Args:
        business: the attacked head B, features -> task -> logits.
        features: `[N, h, w, c]` float, of the pool.
        labels: task -> `[N]` int32, -1 where unknown.
        members: how many of the pool are members; they come first.
        heads: how many are trained; even.
        epochs: passes of each over its rows.
        seed: of weights, halves and the order of rows.
        done: called whenever one is trained.
    """
    values = {task: labels[task] for task in business.output}
    observed = scaled_logits(_predict(_compiled(business), features), values)
    head, logits, inside = _Head(business, features, values), [], []
    for number in range(heads):
        inside.append(seen_by(number, members, len(features) - members, seed))
        head.train(np.flatnonzero(inside[-1]), epochs, seed + number)
        logits.append(scaled_logits(_predict(head.forward, features), values))
        done()
    shadows, saw = np.stack(logits), np.stack(inside)
    own, others = _moments(observed, 0), _moments(shadows, (0, 1))
    aligned = (observed - own[0]) / np.maximum(own[1], 1e-6) * others[1] + others[0]
    return {name: attack(aligned, shadows, saw) for name, attack in ATTACKS.items()}


def _moments(values: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and deviation of what is known; 0 for a task without any label."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=axes), 1)
    mean = np.where(known, values, 0.0).sum(axis=axes) / count
    return mean, np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=axes) / count)


class _Head:
    """One head of B's shape that is trained again and again, so that nothing is traced anew."""

    def __init__(self, business: keras.Model, features: Array, labels: dict[str, Array]) -> None:
        self._model = keras.models.clone_model(business)
        self._features, self._labels = features, labels
        optimizer = keras.optimizers.Adam(_RATE)
        optimizer.build(self._model.trainable_variables)
        self._state = [(variable, variable.numpy()) for variable in optimizer.variables]
        self._biases = [(v, v.numpy()) for v in self._model.variables if len(v.shape) < 2]
        self.forward = _compiled(self._model)

        @tf.function(autograph=False, reduce_retracing=True)
        def step(seen: Any, wanted: dict[str, Any]) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(business_loss(self._model(seen, training=True), wanted))
            variables = self._model.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        self._step = step

    def train(self, rows: Array, epochs: int, seed: int) -> None:
        """Starts from new weights and passes over the rows."""
        self._start(seed)
        draw = np.random.default_rng(layer_seed(seed, "heads/order"))
        for _ in range(epochs):
            order = draw.permutation(rows)
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                wanted = {task: tf.constant(v[batch]) for task, v in self._labels.items()}
                self._step(tf.constant(self._features[batch], tf.float32), wanted)

    def _start(self, seed: int) -> None:
        for variable, value in (*self._state, *self._biases):
            variable.assign(value)
        draw = np.random.default_rng(layer_seed(seed, "heads/weights"))
        for variable in self._model.trainable_variables:
            if len(variable.shape) > 1:
                # He et al. (2015): variance 2 over the number of inputs.
                spread = np.sqrt(2 / np.prod(variable.shape[:-1]))
                variable.assign(draw.normal(0, spread, variable.shape).astype(np.float32))


def _compiled(head: keras.Model) -> Callable[[Any], dict[str, Any]]:
    return tf.function(
        lambda rows: head(rows, training=False), autograph=False, reduce_retracing=True
    )


def _predict(forward: Callable[[Any], dict[str, Any]], features: Array) -> dict[str, Array]:
    parts = [
        forward(tf.constant(features[start : start + 256], tf.float32))
        for start in range(0, len(features), 256)
    ]
    return {task: np.concatenate([part[task].numpy() for part in parts]) for task in parts[0]}
