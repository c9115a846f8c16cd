"""What an attacker is given, what it answers, and how the answer is scored.

The forms in which attackers read a target: raw, standardised, whitened.

Everything is fitted on the attacker's training rows. Without standardising and whitening an encoder
would win by scaling what it hides down instead of removing it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_selection import f_classif

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


# A correlation below this share is not told apart from rounding.
_LEAST_EIGENVALUE = 1e-6
# Of the absolute mean: float32 holds seven digits.
_LEAST_DEVIATION = 1e-6
# More rows hardly turn the leading components, and cost time in proportion.
_ROWS_PER_COMPONENT, _LEAST_ROWS = 16, 2000


class Rows(NamedTuple):
    """`[N, D]`, `[V, D]` and `[T, D]` float32."""

    train: Array
    validation: Array
    test: Array


class ChannelMap(NamedTuple):
    """`(x - offset) @ matrix` over the last axis: `[C]` and `[C, C]` float32."""

    offset: Array
    matrix: Array


class Inputs:
    """One target's rows as attackers read them, each form made when first asked for and kept.

    Args:
        data: the rows.
        dimensions: most dimensions of `whitened`.
        seed: of the randomised decomposition.
    """

    def __init__(self, data: ProbeData, dimensions: int, seed: int) -> None:
        self.data, self._dimensions, self._seed = data, dimensions, seed

    @functools.cached_property
    def raw(self) -> Rows:
        """As they are, flattened."""
        parts = (self.data.train, self.data.validation, self.data.test)
        return Rows(*(part.reshape(len(part), -1) for part in parts))

    @functools.cached_property
    def standardised(self) -> Rows:
        """Each number with mean 0 and deviation 1; 0 where it never changes."""
        mean, scale = _moments(self.raw.train)
        return Rows(*((part - mean) * scale for part in self.raw))

    @functools.cached_property
    def whitened(self) -> Rows:
        """Leading principal components of `standardised`, each with deviation 1.

        The space that they span is that of the first rows, they themselves are of all of them.
        """
        train = self.standardised.train
        count = min(self._dimensions, len(train) - 1, train.shape[1])
        pca = PCA(count, svd_solver="randomized", iterated_power=2, random_state=self._seed)
        some = train[: max(_ROWS_PER_COMPONENT * count, _LEAST_ROWS)]
        axes = pca.fit(some).components_.astype(np.float32).T
        parts = [part @ axes for part in self.standardised]
        mean = parts[0].mean(axis=0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(parts[0].T)))
        # The largest first; what the rounding of constant columns makes of one is not blown up.
        matrix = vectors / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE))
        matrix = matrix[:, ::-1].astype(np.float32)
        return Rows(*((part - mean) @ matrix for part in parts))

    def selected(self, count: int) -> Rows:
        """The `count` columns of `standardised` that differ most between classes (F test)."""
        train = self.standardised.train
        live = train.std(axis=0) > 0
        score = np.full(train.shape[1], -1.0)
        if live.any():
            score[live] = np.nan_to_num(f_classif(train[:, live], self.data.train_labels)[0])
        columns = np.sort(np.argsort(-score, kind="stable")[:count])
        return Rows(*(part[:, columns] for part in self.standardised))

    def channels(self, form: str) -> ChannelMap:
        """The map over channels that makes `form` ('raw', 'standardised', 'whitened') of a row.

        Whitening is that of all places together (ZCA: channels stay near themselves) and leaves no
        direction out.
        """
        size = self.data.train.shape[-1]
        if form == "raw":
            return ChannelMap(np.zeros(size, np.float32), np.eye(size, dtype=np.float32))
        rows = self.data.train.reshape(-1, size)
        mean, scale = _moments(rows)
        matrix = np.diag(scale).astype(np.float64)
        if form == "whitened":
            values, vectors = np.linalg.eigh(_correlation(rows, mean, scale))
            roots = 1.0 / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE))
            matrix = matrix @ (vectors * roots) @ vectors.T
        return ChannelMap(mean, matrix.astype(np.float32))


def _moments(rows: Array) -> tuple[Array, Array]:
    """Mean and 1 / deviation of each column, `[D]` float32; 0 where it is constant."""
    mean = rows.mean(axis=0, dtype=np.float64)
    # A rounded mean moves every row alike, so a small difference on a large mean is kept.
    mean32 = mean.astype(np.float32)
    square = np.zeros(rows.shape[1])
    # Short enough for sums in float32.
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256] - mean32
        square += np.einsum("nd,nd->d", part, part)
    deviation = np.sqrt(np.maximum(square / len(rows) - (mean - mean32) ** 2, 0.0))
    live = deviation > _LEAST_DEVIATION * np.abs(mean)
    return mean32, np.where(live, 1.0 / np.where(live, deviation, 1.0), 0.0).astype(np.float32)


def _correlation(rows: Array, mean: Array, scale: Array) -> Array:
    """`[C, C]` float64 correlations of the columns."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), 65_536):
        part = (rows[start : start + 65_536] - mean) * scale
        total += (part.T @ part).astype(np.float64)
    return total / len(rows)
