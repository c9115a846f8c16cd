"""Attackers that learn who is a member: scikit-learn's classifiers on whatever is given away."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tf_mtl_privacy.evaluation.membership.selection import Split

Array = np.ndarray[Any, Any]
_COMPONENTS, _FOLDS = 64, 3


def _logistic(seed: int) -> ClassifierMixin:
    return LogisticRegression(C=0.1, max_iter=200)


def _trees(seed: int) -> ClassifierMixin:
    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed)


def _network(seed: int) -> ClassifierMixin:
    return MLPClassifier((64,), alpha=1e-3, max_iter=60, early_stopping=True, random_state=seed)


LEARNERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "logistic": _logistic,
    "trees": _trees,
    "mlp": _network,
}


def learned_scores(
    learner: str, rows: Array, split: Split, seed: int, *, pressed: int | None = None
) -> Array:
    """`[N]` float64 probabilities of being a member.

    On the choosing half each row is scored by a model that learned from the others (3 folds), so
    that a choice by these scores is not fooled by a learner that remembers; the reporting half by a
    model that learned from the whole choosing half. More than 64 pressed columns are whitened
    principal components first.

    Args:
        learner: a name of `LEARNERS`.
        rows: `[N, d]` float, what the attacker sees of each row.
        split: which rows are whose.
        seed: of the folds and the learner's own draws.
        pressed: how many of the last columns may become components; by default all.
    """
    pressed = rows.shape[1] if pressed is None else pressed
    steps: list[Any] = [StandardScaler()]
    # As many rows as a fold learns from, less one, bound the components too.
    most = min(_COMPONENTS, int(split.choosing.sum()) * (_FOLDS - 1) // _FOLDS - 1)
    if pressed > most:
        components = PCA(most, whiten=True, random_state=seed)
        last = slice(rows.shape[1] - pressed, None)
        steps.append(ColumnTransformer([("few", components, last)], remainder="passthrough"))
    model = make_pipeline(*steps, LEARNERS[learner](seed))
    known, truth = rows[split.choosing], split.member[split.choosing]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(rows))
    # One thread: for so few rows several are no faster, and on cores that are shared with other
    # work they wait for each other, hundreds of times longer than they compute.
    with threadpool_limits(1), warnings.catch_warnings():
        # Stopping early only makes an attacker weaker, and the strongest is reported.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cross_val_predict(model, known, truth, cv=folds, method="predict_proba")
        scores[split.choosing] = found[:, 1]
        model.fit(known, truth)
    scores[~split.choosing] = model.predict_proba(rows[~split.choosing])[:, 1]
    return scores
