"""How well a head reads its label: accuracy and its relatives. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.intervals import wilson_interval

Array = np.ndarray[Any, Any]
_RATES = ("accuracy", "ci95", "balanced_accuracy", "f1", "majority")


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> Array:
    """Counts `[classes, classes]` int64: row = true class, column = predicted class.

    Args:
        labels: `[N]` int, in [0, classes).
        predicted: `[N]` int, in [0, classes).
        classes: number of classes.
    """
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def utility(logits: Array, labels: Array, class_names: Sequence[str]) -> dict[str, Any]:
    """Figures of one task. Rows whose label is -1 are left out and counted.

    Args:
        logits: `[N, K]` float, larger is more likely; the largest is the prediction.
        labels: `[N]` int in [-1, K); -1 is unknown.
        class_names: the K names.

    Returns:
        `accuracy` with its 95 % Wilson interval `ci95`; `balanced_accuracy` (mean recall over the
        classes that have rows); `f1` (two classes: of class 1; more: the mean over the classes
        that occur among labels or predictions); `majority` (share of the most frequent class);
        `chance` (1/K); `n`; `unknown`; `recall` by class name. Rates are in [0, 1], or None where
        there is nothing to count: then `reason` says why.

    Raises:
        ValueError: shapes or labels that do not belong together.
    """
    classes = len(class_names)
    if logits.shape != (len(labels), classes):
        raise ValueError(f"expected logits {(len(labels), classes)}, got {logits.shape}")
    known = labels >= 0
    truth = labels[known]
    if truth.size and truth.max() >= classes:
        raise ValueError(f"label {truth.max()}: expected less than {classes} classes")
    if not np.isfinite(logits[known]).all():
        raise ValueError("logits are not finite")
    counts = {"n": int(truth.size), "unknown": int((~known).sum()), "chance": 1 / classes}
    if not truth.size:
        empty = {**dict.fromkeys(_RATES), "recall": dict.fromkeys(class_names)}
        return {**empty, **counts, "reason": "no row has a label"}
    matrix = confusion_matrix(truth, logits[known].argmax(axis=1), classes)
    return {**_rates(matrix, class_names), **counts}


def _rates(matrix: Array, class_names: Sequence[str]) -> dict[str, Any]:
    hits, rows, guesses = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    present = rows > 0
    recall = hits[present] / rows[present]
    by_class = [float(h / n) if n else None for h, n in zip(hits, rows, strict=True)]
    return {
        "accuracy": float(hits.sum() / rows.sum()),
        "ci95": wilson_interval(int(hits.sum()), int(rows.sum())),
        "balanced_accuracy": float(recall.mean()),
        "f1": _f1(hits, rows, guesses),
        "majority": float(rows.max() / rows.sum()),
        "recall": dict(zip(class_names, by_class, strict=True)),
    }


def _f1(hits: Array, rows: Array, guesses: Array) -> float:
    """F1 = 2 TP / (rows + guesses) of class 1, or the mean over classes that occur at all."""
    if len(hits) == 2:
        # A class that never occurs and is never guessed has F1 0, as in scikit-learn.
        return float(2 * hits[1] / max(rows[1] + guesses[1], 1))
    occurs = rows + guesses > 0
    return float(np.mean(2 * hits[occurs] / (rows + guesses)[occurs]))
