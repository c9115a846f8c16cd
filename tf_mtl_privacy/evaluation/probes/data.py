"""What an attacker is given, what it answers, and how the answer is scored."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval
from tf_mtl_privacy.evaluation.utility import utility

Array = np.ndarray[Any, Any]
_FIGURES = ("accuracy", "balanced_accuracy", "ci95", "n")


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """Rows of one target (features, restored images, pixels) with the private label.

    Attributes:
        train: `[N, ...]` float32, what attackers learn from.
        train_labels: `[N]` int32 in [0, classes).
        validation: `[V, ...]` float32, what everything is chosen by.
        validation_labels: `[V]` int32.
        test: `[T, ...]` float32, what is reported, on rows that nobody trained on.
        test_labels: `[T]` int32.
        classes: K, at least 2.

    Raises:
        ValueError: shapes or labels that do not belong together, no rows, values not finite.
    """

    train: Array
    train_labels: Array
    validation: Array
    validation_labels: Array
    test: Array
    test_labels: Array
    classes: int

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            rows, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if rows.shape[1:] != self.train.shape[1:] or labels.shape != (len(rows),):
                raise ValueError(f"{part}: rows {rows.shape} and labels {labels.shape} do not fit")
            if not len(rows):
                raise ValueError(f"{part}: expected at least one row")
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(f"{part}: expected labels in [0, {self.classes})")
            if not np.isfinite(rows).all():
                raise ValueError(f"{part}: values are not finite")

    def blind(self) -> ProbeData:
        """The same rows with every test label 0: what an attacker may see."""
        return dataclasses.replace(self, test_labels=np.zeros_like(self.test_labels))


class ClassScores(NamedTuple):
    """What one attacker says: `[V, K]` and `[T, K]` float, larger is more likely."""

    validation: Array
    test: Array


def figures(scores: Array, labels: Array) -> dict[str, Any]:
    """`accuracy`, `balanced_accuracy`, their 95 % intervals, and `n`.

    `ci95` is Wilson's, of the accuracy; `balanced_ci95` see `balanced_accuracy_interval`.

    Args:
        scores: `[N, K]` float, larger is more likely.
        labels: `[N]` int in [0, K); N > 0.
    """
    found = utility(scores, labels, [str(number) for number in range(scores.shape[1])])
    rows = np.bincount(labels, minlength=scores.shape[1])
    right = labels[scores.argmax(axis=1) == labels]
    hits = np.bincount(right, minlength=scores.shape[1])
    interval = balanced_accuracy_interval(hits.tolist(), rows.tolist())
    return {**{name: found[name] for name in _FIGURES}, "balanced_ci95": interval}


def balanced_accuracy(scores: Array, labels: Array) -> float:
    """Mean recall over the classes that have rows, in [0, 1]."""
    return float(figures(scores, labels)["balanced_accuracy"])


def row_weights(labels: Array, classes: int, most: float = 20.0) -> Array:
    """`[N]` float32 weights under which classes count alike: N / (classes there * rows of it).

    Without them an attacker on uneven classes learns the majority, whereas the strongest is chosen
    by balanced accuracy. All are 1 where classes are even.

    Args:
        labels: `[N]` int in [0, classes).
        classes: K.
        most: bound on a weight, so that a class with a single row does not drown the others.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.minimum(weights, most).astype(np.float32)[labels]
