"""Counts the rows of each class, and finds classes that look wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import MISSING, alike, number_of

# From here on classes are counted as dozens; so many are shown.
MANY_CLASSES, _SHOWN = 24, 12
_PERSON = re.compile(r"person\d+")


def class_lines(dataset: Dataset) -> list[str]:
    """The classes of each task and of the private label with their numbers of rows, a line each."""
    lines = []
    for name, classes, values in _labels(dataset):
        found = np.concatenate([values[rows] for rows in dataset.rows.values()])
        counts = np.bincount(found[found >= 0], minlength=len(classes))
        shown = [f"{text} {n}" for text, n in zip(classes, counts, strict=True)]
        left = len(shown) - _SHOWN
        unknown = int((found < 0).sum())
        parts = [*shown[:_SHOWN], *([f"{left} more classes"] if left > 0 else [])]
        parts += [f"unknown {unknown}"] if unknown else []
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def class_warnings(dataset: Dataset) -> list[str]:
    """Lists oddities in the classes of the tasks and of the private label, a line each."""
    return [
        f"{name}: {text}"
        for name, classes, values in _labels(dataset)
        for text in _oddities(name, classes, values, dataset.rows)
    ]


def _labels(dataset: Dataset) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    labels = dataset.all_labels
    for task, classes in dataset.task_classes.items():
        yield task, classes, labels.business[task]
    if dataset.private_classes:
        yield "private label", dataset.private_classes, labels.private


def _oddities(
    name: str, classes: tuple[str, ...], values: np.ndarray, rows: Mapping[str, np.ndarray]
) -> Iterator[str]:
    for group in alike(classes):
        yield f"the classes {_quoted(group)} differ in writing only and count as {len(group)}"
    missing = [text for text in classes if text.lower() in MISSING]
    if missing:
        yield (
            f"{_quoted(missing)} counts as a class; leave these cells empty if nothing is known "
            "there"
        )
    is_people = all(_PERSON.fullmatch(text) for text in classes)
    if len(classes) >= MANY_CLASSES and not is_people:
        yield f"{len(classes)} classes{_bins_offer(classes, values)}"
    training = values[rows["train"]]
    absent = np.setdiff1d(np.arange(len(classes)), training)
    if len(training) and len(absent):
        few = _quoted([classes[number] for number in absent[:3]])
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        yield f"no training row is of the class {few}{more}"


def _bins_offer(classes: Sequence[str], values: np.ndarray) -> str:
    """The end of a warning: how to make four classes of numbers, about equally many rows each."""
    numbers = [number_of(text) for text in classes]
    if any(number is None for number in numbers):
        return ""
    known = np.array(numbers, np.float64)[values[values >= 0]]
    if not len(known):
        return ""
    digits = 0 if (known == np.round(known)).all() else 2
    edges = np.unique(np.round(np.quantile(known, (0.25, 0.5, 0.75)), digits))
    text = ":".join(f"{edge:g}" for edge in edges)
    return f", all of them numbers; --bins=ATTRIBUTE={text} makes {len(edges) + 1} of them"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
