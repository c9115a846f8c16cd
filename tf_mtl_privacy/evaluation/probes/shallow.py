"""Attackers of scikit-learn: logistic regression, nearest neighbours, boosted trees.

Each tries a few settings and keeps the one with the best balanced accuracy on validation rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from tf_mtl_privacy.evaluation.probes.data import Array, ClassScores, balanced_accuracy, row_weights
from tf_mtl_privacy.evaluation.probes.inputs import Rows


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
