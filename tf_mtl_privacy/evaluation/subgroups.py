"""Accuracy within groups of rows: does the model serve everybody equally well?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

Array = np.ndarray[Any, Any]
MIN_ROWS = 20
MIN_EXPECTED = 5
MAX_LISTED = 16
PRIVATE = "private_label"
A_PERSON = "a person"


def group_accuracy(
    correct: Array, groups: Array, class_names: Sequence[str], *, people: bool = False
) -> dict[str, Any]:
    """Accuracy within each group.

    A group with fewer than `MIN_ROWS` rows has None and a reason instead of a figure. Where there
    are more than `MAX_LISTED` groups (identities), only the extremes are given.

    Args:
        correct: `[N]` bool.
        groups: `[N]` int in [-1, G); rows with -1 belong to no group.
        class_names: the G groups' names.
        people: whether each group is a person, who is then not named: results get published.

    Returns:
        `groups` (name -> `{accuracy, n}`), `worst` and `best` (`{group, accuracy, n}` or None),
        `gap` (best - worst, or None) over the groups that are large enough, `p_value` (see
        `homogeneity`, None where it makes no test), `too_small` (how many groups are not large
        enough).
    """
    figures = {name: _figure(correct[groups == number]) for number, name in enumerate(class_names)}
    large = [
        {"group": name, **figure}
        for name, figure in figures.items()
        if figure["accuracy"] is not None
    ]
    worst = min(large, key=lambda figure: figure["accuracy"], default=None)
    best = max(large, key=lambda figure: figure["accuracy"], default=None)
    summary: dict[str, Any] = {
        "worst": worst,
        "best": best,
        "gap": best["accuracy"] - worst["accuracy"] if best and worst else None,
        "p_value": homogeneity(large),
        "too_small": len(figures) - len(large),
    }
    if people:
        for figure in filter(None, (worst, best)):
            figure["group"] = A_PERSON
        return summary
    return {**summary, "groups": figures} if len(figures) <= MAX_LISTED else summary


def homogeneity(figures: Sequence[Mapping[str, Any]]) -> float | None:
    """How likely differences this large are where all groups have the same accuracy.

    Pearson's chi-squared test: `sum_g n_g (a_g - a)^2 / (a (1 - a))` with G - 1 degrees of
    freedom, `a` being the accuracy over all groups.

    Args:
        figures: `{accuracy, n}` of each group.

    Returns:
        The p-value, in [0, 1]. None, as no test is made, for fewer than two groups, or where a
        group's expected count of right or of wrong rows, `n_g a` or `n_g (1 - a)`, is below 5:
        there the statistic does not follow its distribution (Cochran, 1954).
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
    """P-values adjusted for the number of tests, in the order given, each in [0, 1].

    Holm (1979): of m tests, the k-th smallest p-value (k from 0) becomes the largest of
    `(m - j) p_j` over j <= k, at most 1. Rejecting those below a level keeps the chance of even
    one wrong rejection below it, whatever depends on what.
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
) -> dict[str, dict[str, Any]]:
    """Accuracy of each task within each class of every other task and of the private label.

    Args:
        logits: task -> `[N, K]` float.
        labels: task -> `[N]` int, -1 where unknown (such rows are left out).
        task_classes: task -> class names.
        private_labels: `[N]` int, -1 where unknown.
        private_classes: names of the private label's classes; empty where there is none.
        people: True if the private label is identity; nobody is named then.

    Returns:
        task -> grouping (another task's name, or `PRIVATE`) -> see `group_accuracy`, and
        `adjusted_p_value`: see `holm`, over all tests that are made here; None without a test.
    """
    groupings = {name: (labels[name], classes) for name, classes in task_classes.items()}
    if private_classes:
        groupings[PRIVATE] = (private_labels, private_classes)
    result: dict[str, dict[str, Any]] = {}
    for task in task_classes:
        known = labels[task] >= 0
        correct = logits[task][known].argmax(axis=1) == labels[task][known]
        result[task] = {
            name: group_accuracy(correct, groups[known], classes, people=people and name == PRIVATE)
            for name, (groups, classes) in groupings.items()
            if name != task
        }
    found = [figures for groupings in result.values() for figures in groupings.values()]
    tested = [figures for figures in found if figures["p_value"] is not None]
    for figures in found:
        figures["adjusted_p_value"] = None
    for figures, value in zip(tested, holm([f["p_value"] for f in tested]), strict=True):
        figures["adjusted_p_value"] = value
    return result


def _figure(correct: Array) -> dict[str, Any]:
    if correct.size < MIN_ROWS:
        reason = f"fewer than {MIN_ROWS} rows"
        return {"accuracy": None, "n": int(correct.size), "reason": reason}
    return {"accuracy": float(correct.mean()), "n": int(correct.size)}
