"""Rows of an attack, the forms in which attackers read them, and scores."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_selection import f_classif

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval
from tf_mtl_privacy.evaluation.probes.budget import ProbeBudget
from tf_mtl_privacy.evaluation.schema import Reading
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.types import Array


class Labelled(NamedTuple):
    """Pictures `[N, S, S, 3]` uint8 with their private label `[N]` int32, all known."""

    images: Array
    labels: Array


class AttackRows(NamedTuple):
    """Rows for training, choosing and testing; no two share a picture."""

    train: Labelled
    validation: Labelled
    test: Labelled


def unseen_rows(
    dataset: Dataset,
    data: DataConfig,
    test: Array,
    budget: ProbeBudget,
    seed: int,
    *,
    is_own: bool = True,
) -> AttackRows | str:
    """Returns rows that no encoder was trained on, or the reason why there are none.

    Synthetic faces: the budget's number of rows from the stream `attacker`, with the data's own
    seed, shift and correlation. Other data: its validation rows, and its training rows where the
    run was trained on other data. A quarter of them, at most `budget.validation_rows`, are for
    choosing; the rest, at most `budget.rows`, for training.

    Args:
        dataset: the data that is evaluated.
        data: what it was opened with.
        test: `[T]` int64, its test rows.
        budget: the numbers of rows.
        seed: of the choice and the order of rows.
        is_own: if the run was trained on this data.
    """
    tested = _labelled(dataset, test)
    if data.dataset == "synthetic_faces":
        whole = budget.rows + budget.validation_rows
        images, labels = attacker_faces(data, whole)
        known = np.flatnonzero(labels >= 0)
        drawn = Labelled(images[known], labels[known])
        return AttackRows(
            Labelled(*(part[: -budget.validation_rows] for part in drawn)),
            Labelled(*(part[-budget.validation_rows :] for part in drawn)),
            tested,
        )
    if data.effective_private_label == "identity":
        return "a person is learned from that person's training images"
    parts = ("validation",) if is_own else ("train", "validation")
    pool = np.concatenate([_known(dataset, dataset.rows[name]) for name in parts])
    rows = np.random.default_rng(seed).permutation(pool)
    chosen = min(-(-len(rows) // 4), budget.validation_rows)
    if not 0 < chosen < len(rows):
        return f"there are too few {' and '.join(parts)} rows with a private label"
    learned = rows[chosen:][: budget.rows]
    return AttackRows(_labelled(dataset, learned), _labelled(dataset, rows[:chosen]), tested)


def own_rows(dataset: Dataset, test: Array, budget: ProbeBudget, seed: int) -> AttackRows | str:
    """Returns the run's training and validation rows, or the reason why there are none.

    Args:
        dataset: the data that is evaluated.
        test: `[T]` int64, its test rows.
        budget: the largest numbers of rows.
        seed: of the choice and the order of rows.
    """
    counts = {"train": budget.rows, "validation": budget.validation_rows}
    rng, parts = np.random.default_rng(seed), []
    for name, count in counts.items():
        rows = _known(dataset, dataset.rows[name])
        if not len(rows):
            return f"there are no {name} rows with a private label"
        # In random order, because some attackers only use the first rows.
        parts.append(_labelled(dataset, rng.permutation(rows)[:count]))
    train, validation = parts
    return AttackRows(train, validation, _labelled(dataset, test))


def _known(dataset: Dataset, rows: Array) -> Array:
    return rows[dataset.labels_of(rows).private >= 0]


def _labelled(dataset: Dataset, rows: Array) -> Labelled:
    known = _known(dataset, rows)
    return Labelled(dataset.store.images(known), dataset.labels_of(known).private)


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """Rows of one target (features, restored images, pixels) with the private label.

    Attributes:
        train: `[N, ...]` float32, for training attackers.
        train_labels: `[N]` int32 in [0, classes).
        validation: `[V, ...]` float32, for every choice.
        validation_labels: `[V]` int32.
        test: `[T, ...]` float32, for the reported figures; no network was trained on them.
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
        """Returns the rows that an attacker may see: the same with every test label 0."""
        return dataclasses.replace(self, test_labels=np.zeros_like(self.test_labels))


class ClassScores(NamedTuple):
    """Scores of one attacker: `[V, K]` and `[T, K]` float, larger is more likely."""

    validation: Array
    test: Array


def figures(scores: Array, labels: Array) -> Reading:
    """Returns accuracy and balanced accuracy with their 95 % intervals.

    `ci95` is the Wilson interval of the accuracy; for `balanced_ci95` see
    `balanced_accuracy_interval`.

    Args:
        scores: `[N, K]` float, larger is more likely.
        labels: `[N]` int in [0, K); N > 0.
    """
    whole = utility(scores, labels, [str(number) for number in range(scores.shape[1])])
    rows = np.bincount(labels, minlength=scores.shape[1])
    right = labels[scores.argmax(axis=1) == labels]
    hits = np.bincount(right, minlength=scores.shape[1])
    # Not None, as there are rows.
    accuracy, balanced, interval = whole["accuracy"], whole["balanced_accuracy"], whole["ci95"]
    assert accuracy is not None and balanced is not None and interval is not None
    return {
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        "ci95": interval,
        "balanced_ci95": balanced_accuracy_interval(hits.tolist(), rows.tolist()),
        "n": whole["n"],
    }


def balanced_accuracy(scores: Array, labels: Array) -> float:
    """Returns the mean recall over the classes that have rows, in [0, 1]."""
    return float(figures(scores, labels)["balanced_accuracy"])


def row_weights(labels: Array, classes: int, max_weight: float = 20.0) -> Array:
    """Returns `[N]` float32 weights that balance classes: N / (classes with rows * rows of the
    class).

    Without them an attacker on uneven classes learns the majority, while the strongest is chosen by
    balanced accuracy. All are 1 where classes are even.

    Args:
        labels: `[N]` int in [0, classes).
        classes: K.
        max_weight: largest weight, so that a class of one row does not dominate.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.minimum(weights, max_weight).astype(np.float32)[labels]


# Smaller eigenvalues of a correlation matrix are rounding.
_MIN_EIGENVALUE = 1e-6
# As a share of the absolute mean: float32 has seven digits.
_MIN_DEVIATION = 1e-6
# More rows hardly change the leading components and cost time in proportion.
_ROWS_PER_COMPONENT, _MIN_ROWS = 16, 2000


class Rows(NamedTuple):
    """`[N, D]`, `[V, D]` and `[T, D]` float32."""

    train: Array
    validation: Array
    test: Array


class ChannelMap(NamedTuple):
    """`(x - offset) @ matrix` over the last axis: `[C]` and `[C, C]` float32."""

    offset: Array
    matrix: Array


# The forms in which attackers read rows.
FORMS = ("raw", "standardised", "whitened")


class Inputs:
    """Rows of one target in the forms that attackers read; each form is made on first use.

    All forms are fitted to training rows. Without standardising and whitening an encoder could win
    by scaling the private information down instead of removing it.

    Args:
        data: the rows.
        dimensions: largest number of columns of `whitened`.
        seed: of the randomised decomposition.
    """

    def __init__(self, data: ProbeData, dimensions: int, seed: int) -> None:
        self.data, self._dimensions, self._seed = data, dimensions, seed

    def rows(self, form: str) -> Rows:
        """Returns the rows in one of `FORMS`, flattened."""
        result: Rows = getattr(self, form)
        return result

    @functools.cached_property
    def raw(self) -> Rows:
        """Rows without any change, flattened."""
        parts = (self.data.train, self.data.validation, self.data.test)
        return Rows(*(part.reshape(len(part), -1) for part in parts))

    @functools.cached_property
    def standardised(self) -> Rows:
        """Columns with mean 0 and standard deviation 1; constant columns are 0."""
        mean, scale = _moments(self.raw.train)
        return Rows(*((part - mean) * scale for part in self.raw))

    @functools.cached_property
    def whitened(self) -> Rows:
        """Leading principal components of `standardised`, each with standard deviation 1.

        The subspace is fitted to the first rows, the components in it to all of them.
        """
        train = self.standardised.train
        count = min(self._dimensions, len(train) - 1, train.shape[1])
        pca = PCA(count, svd_solver="randomized", iterated_power=2, random_state=self._seed)
        some = train[: max(_ROWS_PER_COMPONENT * count, _MIN_ROWS)]
        axes = pca.fit(some).components_.astype(np.float32).T
        parts = [part @ axes for part in self.standardised]
        mean = parts[0].mean(axis=0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(parts[0].T)))
        # The largest first; the rounding of constant columns is not amplified.
        matrix = vectors / np.sqrt(np.maximum(values, _MIN_EIGENVALUE))
        matrix = matrix[:, ::-1].astype(np.float32)
        return Rows(*((part - mean) @ matrix for part in parts))

    def selected(self, count: int) -> Rows:
        """Returns the `count` standardised columns that differ most between classes (F test)."""
        train = self.standardised.train
        live = train.std(axis=0) > 0
        score = np.full(train.shape[1], -1.0)
        if live.any():
            score[live] = np.nan_to_num(f_classif(train[:, live], self.data.train_labels)[0])
        columns = np.sort(np.argsort(-score, kind="stable")[:count])
        return Rows(*(part[:, columns] for part in self.standardised))

    def channels(self, form: str) -> ChannelMap:
        """Returns the linear map over channels that brings rows into one of `FORMS`.

        Whitening is ZCA over all places together and drops no direction.
        """
        size = self.data.train.shape[-1]
        if form == "raw":
            return ChannelMap(np.zeros(size, np.float32), np.eye(size, dtype=np.float32))
        rows = self.data.train.reshape(-1, size)
        mean, scale = _moments(rows)
        matrix = np.diag(scale).astype(np.float64)
        if form == "whitened":
            values, vectors = np.linalg.eigh(_correlation(rows, mean, scale))
            roots = 1.0 / np.sqrt(np.maximum(values, _MIN_EIGENVALUE))
            matrix = matrix @ (vectors * roots) @ vectors.T
        return ChannelMap(mean, matrix.astype(np.float32))


def _moments(rows: Array) -> tuple[Array, Array]:
    """Returns mean and 1 / standard deviation of each column, `[D]` float32; 0 where constant."""
    mean = rows.mean(axis=0, dtype=np.float64)
    # A rounded mean shifts all rows alike, which keeps small differences on a large mean.
    mean32 = mean.astype(np.float32)
    square = np.zeros(rows.shape[1])
    # Blocks short enough for sums in float32.
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256] - mean32
        square += np.einsum("nd,nd->d", part, part)
    deviation = np.sqrt(np.maximum(square / len(rows) - (mean - mean32) ** 2, 0.0))
    live = deviation > _MIN_DEVIATION * np.abs(mean)
    return mean32, np.where(live, 1.0 / np.where(live, deviation, 1.0), 0.0).astype(np.float32)


def _correlation(rows: Array, mean: Array, scale: Array) -> Array:
    """Returns the correlations of the columns, `[C, C]` float64."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), 65_536):
        part = (rows[start : start + 65_536] - mean) * scale
        total += (part.T @ part).astype(np.float64)
    return total / len(rows)
