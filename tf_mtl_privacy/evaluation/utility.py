"""Accuracy of the business heads, accuracy by group, and quality of restored images.

Arrays in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import chi2

from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.schema import Group, NamedGroup, Restoration, Subgroups, Utility
from tf_mtl_privacy.types import Array

MIN_ROWS = 20
MIN_EXPECTED = 5
MAX_LISTED = 16
PRIVATE = "private_label"
A_PERSON = "a person"


class CountedUtility(Utility):
    """`Utility`, with the number of rows without a label."""

    unknown: int


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> Array:
    """Returns counts `[classes, classes]` int64: row = true class, column = predicted class.

    Args:
        labels: `[N]` int, in [0, classes).
        predicted: `[N]` int, in [0, classes).
        classes: number of classes.
    """
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def utility(logits: Array, labels: Array, class_names: Sequence[str]) -> CountedUtility:
    """Returns the figures of one task, without rows whose label is -1.

    Args:
        logits: `[N, K]` float, larger is more likely; the largest is the prediction.
        labels: `[N]` int in [-1, K); -1 is unknown.
        class_names: the K names.

    Returns:
        `accuracy` with its 95 % Wilson interval `ci95`; `balanced_accuracy` (mean recall over the
        classes that have rows); `f1` (two classes: of class 1; more: the mean over the classes
        that occur among labels or predictions); `majority` (share of the most frequent class);
        `chance` (1/K); `n`; `unknown`; `recall` by class name. Rates are in [0, 1]; None, with a
        `reason`, where no row has a label.

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
    result: CountedUtility = {
        "accuracy": None,
        "ci95": None,
        "balanced_accuracy": None,
        "f1": None,
        "majority": None,
        "recall": dict.fromkeys(class_names),
        "n": int(truth.size),
        "unknown": int((~known).sum()),
        "chance": 1 / classes,
    }
    if not truth.size:
        result["reason"] = "no row has a label"
        return result
    matrix = confusion_matrix(truth, logits[known].argmax(axis=1), classes)
    hits, rows, guesses = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    present = rows > 0
    recall = hits[present] / rows[present]
    by_class = [float(h / n) if n else None for h, n in zip(hits, rows, strict=True)]
    result["accuracy"] = float(hits.sum() / rows.sum())
    result["ci95"] = wilson_interval(int(hits.sum()), int(rows.sum()))
    result["balanced_accuracy"] = float(recall.mean())
    result["f1"] = _f1(hits, rows, guesses)
    result["majority"] = float(rows.max() / rows.sum())
    result["recall"] = dict(zip(class_names, by_class, strict=True))
    return result


def _f1(hits: Array, rows: Array, guesses: Array) -> float:
    """Returns F1 = 2 TP / (rows + guesses) of class 1, or the mean over the classes that occur."""
    if len(hits) == 2:
        # F1 of a class that is neither there nor predicted is 0, as in scikit-learn.
        return float(2 * hits[1] / max(rows[1] + guesses[1], 1))
    occurs = rows + guesses > 0
    return float(np.mean(2 * hits[occurs] / (rows + guesses)[occurs]))


def group_accuracy(
    correct: Array, groups: Array, class_names: Sequence[str], *, people: bool = False
) -> Subgroups:
    """Returns the accuracy within each group.

    A group with fewer than `MIN_ROWS` rows has None and a reason in place of a figure. For more
    than `MAX_LISTED` groups only the extremes are returned.

    Args:
        correct: `[N]` bool.
        groups: `[N]` int in [-1, G); rows with -1 belong to no group.
        class_names: the G groups' names.
        people: True if each group is a person; results get published, so nobody is named then.

    Returns:
        `worst`, `best` and `gap` (best - worst) are of the groups that are large enough; None
        without any. `p_value`: see `homogeneity`. `too_small`: the number of other groups.
    """
    figures = {name: _figure(correct[groups == number]) for number, name in enumerate(class_names)}
    large: list[NamedGroup] = [
        {"group": name, "accuracy": figure["accuracy"], "n": figure["n"]}
        for name, figure in figures.items()
        if figure["accuracy"] is not None
    ]
    worst = min(large, key=lambda figure: figure["accuracy"], default=None)
    best = max(large, key=lambda figure: figure["accuracy"], default=None)
    summary: Subgroups = {
        "worst": worst,
        "best": best,
        "gap": best["accuracy"] - worst["accuracy"] if best and worst else None,
        "p_value": homogeneity(large),
        # Set by `subgroups`, which knows the number of tests.
        "adjusted_p_value": None,
        "too_small": len(figures) - len(large),
    }
    if people:
        for figure in filter(None, (worst, best)):
            figure["group"] = A_PERSON
        return summary
    if len(figures) <= MAX_LISTED:
        summary["groups"] = figures
    return summary


def homogeneity(figures: Sequence[NamedGroup]) -> float | None:
    """Tests if all groups have the same accuracy.

    Pearson's chi-squared test: `sum_g n_g (a_g - a)^2 / (a (1 - a))` with G - 1 degrees of
    freedom, `a` being the accuracy over all groups.

    Args:
        figures: `{accuracy, n}` of each group.

    Returns:
        The p-value, in [0, 1]. None, without a test, for fewer than two groups, or where a group's
        expected count of right or of wrong rows, `n_g a` or `n_g (1 - a)`, is below 5: there the
        statistic does not follow its distribution (Cochran, 1954).
    """
    if len(figures) < 2:
        return None
    rates = np.array([figure["accuracy"] for figure in figures])
    rows = np.array([figure["n"] for figure in figures])
    mean = float((rates * rows).sum() / rows.sum())
    if rows.min() * min(mean, 1 - mean) < MIN_EXPECTED:
        return None
    statistic = (rows * (rates - mean) ** 2).sum() / (mean * (1 - mean))
    return float(chi2.sf(statistic, len(rates) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for the number of tests; returns them in the order given, each in [0, 1].

    Holm (1979): of m tests, the k-th smallest p-value (k from 0) becomes the largest of
    `(m - j) p_j` over j <= k, at most 1. Rejecting those below a level keeps the probability of
    any wrong rejection below it, for tests with any dependence.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def subgroups(
    logits: Mapping[str, Array],
    labels: Mapping[str, Array],
    task_classes: Mapping[str, Sequence[str]],
    private_labels: Array,
    private_classes: Sequence[str],
    *,
    people: bool = False,
) -> dict[str, dict[str, Subgroups]]:
    """Returns the accuracy of each task within the classes of all other tasks and the private
    label.

    Args:
        logits: task -> `[N, K]` float.
        labels: task -> `[N]` int, -1 where unknown (such rows are left out).
        task_classes: task -> class names.
        private_labels: `[N]` int, -1 where unknown.
        private_classes: names of the private label's classes; empty without one.
        people: True if the private label is identity; nobody is named then.

    Returns:
        task -> grouping (another task's name, or `PRIVATE`) -> see `group_accuracy`.
        `adjusted_p_value` is by `holm` over all tests of the call; None without a test.
    """
    groupings = {name: (labels[name], classes) for name, classes in task_classes.items()}
    if private_classes:
        groupings[PRIVATE] = (private_labels, private_classes)
    result: dict[str, dict[str, Subgroups]] = {}
    for task in task_classes:
        known = labels[task] >= 0
        correct = logits[task][known].argmax(axis=1) == labels[task][known]
        result[task] = {
            name: group_accuracy(correct, groups[known], classes, people=people and name == PRIVATE)
            for name, (groups, classes) in groupings.items()
            if name != task
        }
    tested = [
        (figures, figures["p_value"])
        for parts in result.values()
        for figures in parts.values()
        if figures["p_value"] is not None
    ]
    adjusted = holm([p_value for _, p_value in tested])
    for (figures, _), value in zip(tested, adjusted, strict=True):
        figures["adjusted_p_value"] = value
    return result


def _figure(correct: Array) -> Group:
    if correct.size < MIN_ROWS:
        reason = f"fewer than {MIN_ROWS} rows"
        return {"accuracy": None, "n": int(correct.size), "reason": reason}
    return {"accuracy": float(correct.mean()), "n": int(correct.size)}


def restoration(
    psnr: Array | None, ssim: Array | None, mean_image_psnr: Array | None
) -> Restoration:
    """Returns the means of per-image figures.

    Args:
        psnr: `[N]` dB of restored images on [0, 1], or None without a restorer.
        ssim: `[N]` in [-1, 1], or None.
        mean_image_psnr: `[N]` dB of the training rows' mean image, or None where unknown.

    Returns:
        `psnr_db`, `ssim`, `mean_image_psnr_db` (None where there is nothing to average; then
        `reason` or `mean_image_reason` says why) and `n`.
    """
    n = 0 if psnr is None else int(psnr.size)
    result: Restoration = {
        "psnr_db": _mean(psnr),
        "ssim": _mean(ssim),
        "mean_image_psnr_db": _mean(mean_image_psnr),
        "n": n,
    }
    if psnr is None:
        result["reason"] = "the model has no restorer"
    elif not n:
        result["reason"] = "there are no rows"
    elif mean_image_psnr is None:
        result["mean_image_reason"] = "the data set has no training rows to take the mean of"
    return result


def _mean(values: Array | None) -> float | None:
    if values is None or not values.size:
        return None
    return float(np.mean(values, dtype=np.float64))
