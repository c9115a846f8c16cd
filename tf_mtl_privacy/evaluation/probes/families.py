"""The attackers by name: what each reads, and with what.

Attackers of scikit-learn: logistic regression, nearest neighbours, boosted trees.

Each tries a few settings and keeps the one with the best balanced accuracy on validation rows.

Trains one network that attacks, and gives its answers.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import Model, optimizers
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from tf_mtl_privacy.evaluation.probes import networks
from tf_mtl_privacy.evaluation.probes.budget import BATCH, Setting, passes
from tf_mtl_privacy.evaluation.probes.data import (
    Array,
    ChannelMap,
    ClassScores,
    Inputs,
    ProbeData,
    Rows,
    balanced_accuracy,
    row_weights,
)


def logistic(
    rows: Rows,
    labels: Array,
    validation_labels: Array,
    classes: int,
    *,
    strengths: Sequence[float],
    steps: int,
    enough: float = 1.0,
) -> ClassScores:
    """Logistic regression with an L2 penalty.

    Args:
        rows: what it reads.
        labels: `[N]` int in [0, classes) of `rows.train`.
        validation_labels: `[V]` int.
        classes: K.
        strengths: scikit-learn's C, ascending: each starts from the one before.
        steps: most iterations of L-BFGS, for each strength.
        enough: balanced accuracy on validation rows from which no further strength is tried.
    """
    model = LogisticRegression(max_iter=steps, tol=1e-3, warm_start=True)
    weights = row_weights(labels, classes)

    def tries() -> Iterable[ClassScores]:
        for strength in strengths:
            model.set_params(C=strength)
            with warnings.catch_warnings():
                # Stopping after `steps` is meant: the validation rows say what that is worth.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(rows.train, labels, weights)
            yield _probabilities(model, rows, classes)

    return _best(tries(), validation_labels, enough)


def nearest_neighbours(
    rows: Rows,
    labels: Array,
    validation_labels: Array,
    classes: int,
    *,
    neighbours: Sequence[int],
) -> ClassScores:
    """Votes of the nearest training rows (Euclidean), each class's divided by its share of rows.

    Args:
        rows: what it reads.
        labels: `[N]` int in [0, classes) of `rows.train`.
        validation_labels: `[V]` int.
        classes: K.
        neighbours: how many vote; those above N are left out.
    """
    most = min(max(neighbours), len(rows.train))
    index = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(rows.train)
    votes = np.eye(classes)[labels] * row_weights(labels, classes, most=np.inf)[:, None]
    found = [votes[index.kneighbors(part, return_distance=False)] for part in rows[1:]]
    # The votes of nearer rows come first, so k of them are a prefix.
    tries = (
        ClassScores(*(part[:, :count].sum(axis=1) for part in found))
        for count in sorted({min(count, most) for count in neighbours})
    )
    return _best(tries, validation_labels)


def boosted_trees(
    rows: Rows, labels: Array, classes: int, *, rounds: int, seed: int
) -> ClassScores:
    """Histogram gradient boosting.

    Args:
        rows: what it reads; time grows with its columns.
        labels: `[N]` int in [0, classes) of `rows.train`.
        classes: K; each round grows one tree for each.
        rounds: rounds of boosting.
        seed: of the binning of large data.
    """
    model = HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=0.15,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(rows.train, labels, row_weights(labels, classes))
    return _probabilities(model, rows, classes)


def _probabilities(model: LogisticRegression, rows: Rows, classes: int) -> ClassScores:
    """Probabilities with a column for every class, also one without training rows."""

    def of(part: Array) -> Array:
        found = np.zeros((len(part), classes))
        found[:, model.classes_] = model.predict_proba(part)
        return found

    return ClassScores(of(rows.validation), of(rows.test))


def _best(
    tries: Iterable[ClassScores], validation_labels: Array, enough: float = math.inf
) -> ClassScores:
    """Returns the first of the best tries on validation rows; none is made after `enough`."""
    best: tuple[float, ClassScores] | None = None
    for scores in tries:
        read = balanced_accuracy(scores.validation, validation_labels)
        if best is None or read > best[0]:
            best = read, scores
        if read >= enough:
            break
    assert best is not None
    return best[1]


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


# (what it reads, how hard it tries, seed) -> its answers.
Attacker = Callable[[Inputs, Setting, int], ClassScores]
_STRENGTHS = {"raw": (1e-2, 1.0), "standardised": (1e-4, 1e-3), "whitened": (1e-3, 1e-1)}
_OF_MAPS = ("local", "soft", "placed", "discriminator")
_NEIGHBOURS = (1, 5, 25)
# A larger step leaves some starts at chance on images, of which a small place says the label.
_IMAGE_RATE = 4e-3


def attackers(discriminator: keras.Model | None = None) -> dict[str, Attacker]:
    """Name -> attacker; a name is its family and the form that it reads.

    Args:
        discriminator: the D that the encoder met; adds 'discriminator' (a new one of its shape,
            with BatchNorm and without DP) and 'discriminator_final' (which goes on from its
            weights).
    """
    found: dict[str, Attacker] = {
        "knn_whitened": _neighbours,
        "trees_standardised": _trees("standardised"),
        "trees_whitened": _trees("whitened"),
        "mlp_whitened": _dense,
    }
    for form in ("raw", "standardised", "whitened"):
        found[f"logistic_{form}"] = _logistic(form)
        found[f"local_{form}"] = _convolutional(networks.local_network, form, 1e-2)
        found[f"soft_{form}"] = _convolutional(networks.soft_network, form, 1e-2)
        found[f"placed_{form}"] = _convolutional(networks.placed_network, form, 2e-3)
    if discriminator is not None:
        found["discriminator"] = _network(
            lambda seed: networks.with_batch_norm(discriminator, seed), "standardised"
        )
        # Its weights belong to features as they are.
        found["discriminator_final"] = _network(
            lambda seed: networks.with_same_weights(discriminator), "raw", rate=1e-3
        )
    return found


def starts_at_random(name: str) -> bool:
    """Returns whether it is a network: another start, or more updates, give another answer."""
    return name.partition("_")[0] in ("mlp", *_OF_MAPS)


def reads_maps_only(name: str) -> bool:
    """Whether it reads `[N, h, w, c]` and nothing flat."""
    return name.partition("_")[0] in _OF_MAPS


def _logistic(form: str) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data = inputs.data
        return logistic(
            getattr(inputs, form),
            data.train_labels,
            data.validation_labels,
            data.classes,
            strengths=_STRENGTHS[form],
            steps=setting.steps,
            enough=setting.enough,
        )

    return attack


def _neighbours(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
    data = inputs.data
    return nearest_neighbours(
        Rows(*(part[:, : setting.columns] for part in inputs.whitened)),
        data.train_labels,
        data.validation_labels,
        data.classes,
        neighbours=_NEIGHBOURS,
    )


def _trees(form: str) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data, count = inputs.data, setting.columns
        leading = Rows(*(part[:, :count] for part in inputs.whitened))
        rows = leading if form == "whitened" else inputs.selected(count)
        return boosted_trees(
            rows, data.train_labels, data.classes, rounds=setting.rounds, seed=seed
        )

    return attack


def _dense(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
    train, validation, test = inputs.whitened
    data = dataclasses.replace(inputs.data, train=train, validation=validation, test=test)
    model = networks.dense_network(train.shape[1], data.classes, units=256, seed=seed)
    unchanged = Inputs(data, 1, seed).channels("raw")
    effort = _effort(setting, setting.dense_epochs)
    return fit_network(model, data, unchanged, **effort, seed=seed)


def _convolutional(build: Callable[..., keras.Model], form: str, rate: float) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data = inputs.data
        shape = data.train.shape[1:]
        if networks.is_image(shape):
            width, step = setting.image_width, min(rate, _IMAGE_RATE)
            effort = _effort(setting, setting.image_epochs)
            effort["batch_size"] = setting.image_batch_size
        else:
            width, step, effort = setting.width, rate, _effort(setting, setting.epochs)
        model = build(shape, data.classes, width=width, seed=seed)
        return fit_network(model, data, inputs.channels(form), **effort, rate=step, seed=seed)

    return attack


def _network(build: Callable[[int], keras.Model], form: str, rate: float = 2e-3) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        effort, channels = _effort(setting, setting.epochs), inputs.channels(form)
        return fit_network(build(seed), inputs.data, channels, **effort, rate=rate, seed=seed)

    return attack


def _effort(setting: Setting, epochs: int) -> dict[str, Any]:
    """Returns how long a network learns, as arguments of `fit_network`."""
    return {"epochs": epochs, "least_updates": setting.least_updates, "enough": setting.enough}
