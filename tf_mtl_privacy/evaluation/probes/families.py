"""Families of fresh attackers, and the registry that names them.

An attacker's name is its family and the form of the rows that it reads: `logistic_whitened`. A
family of your own, in any module that is imported before the attack:

    import dataclasses

    from sklearn.svm import LinearSVC

    from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS
    from tf_mtl_privacy.evaluation.probes.data import ClassScores
    from tf_mtl_privacy.evaluation.probes.families import register_probe

    @register_probe("linear_svm", forms=("whitened",))
    def linear_svm(inputs, form, budget, seed):
        train, validation, test = inputs.rows(form)
        model = LinearSVC(random_state=seed).fit(train, inputs.data.train_labels)
        return ClassScores(model.decision_function(validation), model.decision_function(test))

    fast = PROBE_BUDGETS["fast"]
    names = (*fast.features, "linear_svm_whitened")
    PROBE_BUDGETS["fast"] = dataclasses.replace(fast, features=names)

(`decision_function` has one column a class for three classes or more.) A reference target
(`pixels`, `planted`) has a list of attackers of its own in the budget.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import Model, optimizers
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from tf_mtl_privacy.evaluation.probes import networks
from tf_mtl_privacy.evaluation.probes.budget import BATCH, ProbeBudget, passes
from tf_mtl_privacy.evaluation.probes.data import (
    FORMS,
    ChannelMap,
    ClassScores,
    Inputs,
    ProbeData,
    Rows,
    balanced_accuracy,
    row_weights,
)
from tf_mtl_privacy.types import Array

# (rows, budget, seed) -> class scores.
Attacker = Callable[[Inputs, ProbeBudget, int], ClassScores]
# (rows, form, budget, seed) -> class scores.
Probe = Callable[[Inputs, str, ProbeBudget, int], ClassScores]


class ProbeFamily(NamedTuple):
    """A family of attackers.

    Attributes:
        attack: runs one attack, see `register_probe`.
        forms: the forms of rows that it reads, of `data.FORMS`.
        reads_maps_only: if it needs rows `[N, h, w, c]`.
        starts_at_random: if another seed, or more updates, give another result; then the
            budget's restarts and patience apply.
    """

    attack: Probe
    forms: tuple[str, ...]
    reads_maps_only: bool
    starts_at_random: bool


FAMILIES: dict[str, ProbeFamily] = {}
# Attackers made from the run's own discriminator; they exist where the run has one.
_FROM_DISCRIMINATOR = ("discriminator", "discriminator_final")


def register_probe(
    name: str,
    *,
    forms: Sequence[str] = FORMS,
    reads: Literal["rows", "maps"] = "rows",
    starts_at_random: bool = False,
) -> Callable[[Probe], Probe]:
    """Registers a family of attackers; use as a decorator of a function `attack`.

    `attack(inputs, form, budget, seed)` trains on `inputs.data.train`, chooses by validation rows,
    and returns its `ClassScores` of validation and test rows. It never sees test labels.

    Args:
        name: the family; `<name>_<form>` are the names of its attackers.
        forms: the forms of rows that it reads, of `data.FORMS`.
        reads: "maps" where it needs rows `[N, h, w, c]`, "rows" where it reads any.
        starts_at_random: if another seed, or more updates, give another result.

    Raises:
        ValueError: the name is taken, or a form is unknown.
    """
    if name in FAMILIES or name in _FROM_DISCRIMINATOR:
        raise ValueError(f"probe family {name!r}: the name is taken")
    if unknown := sorted(set(forms) - set(FORMS)):
        raise ValueError(f"probe family {name!r}: form {unknown[0]!r} is not one of {FORMS}")

    def register(attack: Probe) -> Probe:
        FAMILIES[name] = ProbeFamily(attack, tuple(forms), reads == "maps", starts_at_random)
        return attack

    return register


def attackers(discriminator: keras.Model | None = None) -> dict[str, Attacker]:
    """Returns all attackers by name.

    Args:
        discriminator: the discriminator of the adversarial game. It adds `discriminator` (a new one
            of its shape, with BatchNorm and without DP-SGD) and `discriminator_final` (which
            continues from its weights).
    """
    result: dict[str, Attacker] = {
        f"{name}_{form}": functools.partial(_attack_in_form, family.attack, form)
        for name, family in FAMILIES.items()
        for form in family.forms
    }
    if discriminator is not None:
        result["discriminator"] = _network(
            lambda seed: networks.with_batch_norm(discriminator, seed), "standardised"
        )
        # Its weights belong to features in their raw form.
        result["discriminator_final"] = _network(
            lambda seed: networks.with_same_weights(discriminator), "raw", rate=1e-3
        )
    return result


def starts_at_random(name: str) -> bool:
    """Returns True if another start, or more updates, of an attacker give another result."""
    family = FAMILIES.get(_family_of(name))
    return name in _FROM_DISCRIMINATOR or (family is not None and family.starts_at_random)


def reads_maps_only(name: str) -> bool:
    """Returns True if an attacker reads rows `[N, h, w, c]` only."""
    family = FAMILIES.get(_family_of(name))
    return name in _FROM_DISCRIMINATOR or (family is not None and family.reads_maps_only)


def _family_of(name: str) -> str:
    return name.rpartition("_")[0]


def _attack_in_form(
    attack: Probe, form: str, inputs: Inputs, budget: ProbeBudget, seed: int
) -> ClassScores:
    return attack(inputs, form, budget, seed)


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
    """Fits logistic regression with an L2 penalty.

    Args:
        rows: the rows in one form.
        labels: `[N]` int in [0, classes) of `rows.train`.
        validation_labels: `[V]` int.
        classes: K.
        strengths: values of scikit-learn's C, ascending; each fit starts from the one before.
        steps: largest number of iterations of L-BFGS, for each strength.
        enough: balanced accuracy on validation rows at which no further strength is tried.
    """
    model = LogisticRegression(max_iter=steps, tol=1e-3, warm_start=True)
    weights = row_weights(labels, classes)

    def tries() -> Iterable[ClassScores]:
        for strength in strengths:
            model.set_params(C=strength)
            with warnings.catch_warnings():
                # Stopping after `steps` is intended; validation rows score the result.
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
    """Scores classes by votes of the nearest training rows, balanced by class.

    Args:
        rows: the rows in one form; distances are Euclidean.
        labels: `[N]` int in [0, classes) of `rows.train`.
        validation_labels: `[V]` int.
        classes: K.
        neighbours: numbers of voting neighbours to try, each at most N.
    """
    count = min(max(neighbours), len(rows.train))
    index = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(rows.train)
    votes = np.eye(classes)[labels] * row_weights(labels, classes, max_weight=np.inf)[:, None]
    nearest = [votes[index.kneighbors(part, return_distance=False)] for part in rows[1:]]
    # The votes of nearer rows come first, so k of them are a prefix.
    tries = (
        ClassScores(*(part[:, :k].sum(axis=1) for part in nearest))
        for k in sorted({min(k, count) for k in neighbours})
    )
    return _best(tries, validation_labels)


def boosted_trees(
    rows: Rows, labels: Array, classes: int, *, rounds: int, seed: int
) -> ClassScores:
    """Fits histogram gradient boosting.

    Args:
        rows: the rows in one form; time grows with the columns.
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
    """Returns probabilities with a column for every class, also for one without training rows."""

    def of(part: Array) -> Array:
        result = np.zeros((len(part), classes))
        result[:, model.classes_] = model.predict_proba(part)
        return result

    return ClassScores(of(rows.validation), of(rows.test))


def _best(
    tries: Iterable[ClassScores], validation_labels: Array, enough: float = math.inf
) -> ClassScores:
    """Returns the best try on validation rows, the first on ties; stops at `enough`."""
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
    min_updates: int = 0,
    rate: float = 2e-3,
    enough: float = 0.99,
    seed: int,
) -> ClassScores:
    """Trains a network for a fixed number of epochs and returns the scores of its best epoch.

    There is no early stopping for lack of progress: a network can stay at chance for many epochs
    before it learns, and a plateau must not be mistaken for protection. Training only stops early
    at `enough`. The best epoch is chosen on validation rows.

    Args:
        model: rows -> logits `[B, K]`; trained in place.
        data: the rows.
        channels: linear map over channels, applied to each row first.
        epochs: smallest number of epochs, > 0.
        batch_size: see `budget.passes`.
        min_updates: see `budget.passes`.
        rate: Adam's largest learning rate, after a warm-up of one epoch and before cosine decay.
        enough: balanced accuracy on validation rows at which training stops.
        seed: of the order of rows.
    """
    rng = np.random.default_rng(seed)
    batch, steps, epochs = passes(len(data.train), batch_size, epochs, min_updates)
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
        logits = _answers(answer, data.validation)
        score = balanced_accuracy(logits, data.validation_labels)
        if best is None or score >= best[0]:
            best = score, logits, model.get_weights()
        if score >= enough:
            break
    assert best is not None
    model.set_weights(best[2])
    return ClassScores(best[1], _answers(answer, data.test))


def _graphs(
    model: Model, optimizer: optimizers.Optimizer, channels: ChannelMap
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns compiled functions: one update, and logits of rows."""
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


_STRENGTHS = {"raw": (1e-2, 1.0), "standardised": (1e-4, 1e-3), "whitened": (1e-3, 1e-1)}
_NEIGHBOURS = (1, 5, 25)
# With a larger step some starts stay at chance on images where only a small region has the label.
_IMAGE_RATE = 4e-3


@register_probe("logistic")
def _logistic(inputs: Inputs, form: str, budget: ProbeBudget, seed: int) -> ClassScores:
    data = inputs.data
    return logistic(
        inputs.rows(form),
        data.train_labels,
        data.validation_labels,
        data.classes,
        strengths=_STRENGTHS[form],
        steps=budget.steps,
        enough=budget.enough,
    )


@register_probe("knn", forms=("whitened",))
def _knn(inputs: Inputs, form: str, budget: ProbeBudget, seed: int) -> ClassScores:
    data = inputs.data
    return nearest_neighbours(
        Rows(*(part[:, : budget.columns] for part in inputs.rows(form))),
        data.train_labels,
        data.validation_labels,
        data.classes,
        neighbours=_NEIGHBOURS,
    )


@register_probe("trees", forms=("standardised", "whitened"))
def _trees(inputs: Inputs, form: str, budget: ProbeBudget, seed: int) -> ClassScores:
    data, count = inputs.data, budget.columns
    if form == "whitened":
        rows = Rows(*(part[:, :count] for part in inputs.whitened))
    else:
        rows = inputs.selected(count)
    return boosted_trees(rows, data.train_labels, data.classes, rounds=budget.rounds, seed=seed)


@register_probe("mlp", forms=("whitened",), starts_at_random=True)
def _mlp(inputs: Inputs, form: str, budget: ProbeBudget, seed: int) -> ClassScores:
    train, validation, test = inputs.rows(form)
    data = dataclasses.replace(inputs.data, train=train, validation=validation, test=test)
    model = networks.dense_network(train.shape[1], data.classes, units=256, seed=seed)
    unchanged = Inputs(data, 1, seed).channels("raw")
    return fit_network(model, data, unchanged, **_length(budget, budget.dense_epochs), seed=seed)


def _convolutional(build: Callable[..., keras.Model], rate: float) -> Probe:
    def attack(inputs: Inputs, form: str, budget: ProbeBudget, seed: int) -> ClassScores:
        data = inputs.data
        shape = data.train.shape[1:]
        if networks.is_image(shape):
            width, step = budget.image_width, min(rate, _IMAGE_RATE)
            length = _length(budget, budget.image_epochs)
            length["batch_size"] = budget.image_batch_size
        else:
            width, step, length = budget.width, rate, _length(budget, budget.epochs)
        model = build(shape, data.classes, width=width, seed=seed)
        return fit_network(model, data, inputs.channels(form), **length, rate=step, seed=seed)

    return attack


for _name, _build, _rate in (
    ("patch_cnn", networks.patch_cnn, 1e-2),
    ("softmax_pool_cnn", networks.softmax_pool_cnn, 1e-2),
    ("positional_cnn", networks.positional_cnn, 2e-3),
):
    register_probe(_name, reads="maps", starts_at_random=True)(_convolutional(_build, _rate))


def _network(build: Callable[[int], keras.Model], form: str, rate: float = 2e-3) -> Attacker:
    def attack(inputs: Inputs, budget: ProbeBudget, seed: int) -> ClassScores:
        length, channels = _length(budget, budget.epochs), inputs.channels(form)
        return fit_network(build(seed), inputs.data, channels, **length, rate=rate, seed=seed)

    return attack


def _length(budget: ProbeBudget, epochs: int) -> dict[str, Any]:
    """Returns how long a network is trained, as arguments of `fit_network`."""
    return {"epochs": epochs, "min_updates": budget.min_updates, "enough": budget.enough}
