"""Classes of an attribute: bins of its numbers, and their order."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.config.parsing import parse_bins, parse_class_order
from tf_mtl_privacy.data.source import Table
from tf_mtl_privacy.errors import UsageError

# Cells that say that nothing is known, where they should be empty.
MISSING = ("nan", "na", "n/a", "null", "none", "?")


def with_classes(table: Table, config: DataConfig) -> Table:
    """The table with `--bins` and `--class_order` in force.

    Raises:
        UsageError: an attribute that is not there, a class that is not a number, or an order that
            does not have every class once.
    """
    attributes, classes = dict(table.attributes), dict(table.attribute_classes)

    def known(flag: str, text: str, name: str) -> str:
        if name not in attributes:
            raise UsageError(
                f"--{flag}={text}: no attribute {name!r}; there are: "
                f"{', '.join(sorted(attributes)) or 'none'}"
            )
        return f"--{flag}={text}: {name}"

    for name, edges in parse_bins(config.bins).items():
        asked = known("bins", config.bins, name)
        attributes[name], classes[name] = _binned(attributes[name], classes[name], edges, asked)
    for name, order in parse_class_order(config.class_order).items():
        asked = known("class_order", config.class_order, name)
        if set(order) != set(classes[name]):
            raise UsageError(f"{asked}: expected every class once: {':'.join(classes[name])}")
        attributes[name] = reordered(attributes[name], classes[name], order)
        classes[name] = order
    return dataclasses.replace(table, attributes=attributes, attribute_classes=classes)


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the classes between rising `edges`: one more than there are edges."""
    text = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(text)]
    return (f"below {text[0]}", *between, f"{text[-1]} and above")


def reordered(values: np.ndarray, classes: Sequence[str], order: Sequence[str]) -> np.ndarray:
    """Class numbers in another order of the same classes.

    Args:
        values: int32 class numbers of any shape; negative ones (unknown) stay.
        classes: names by number.
        order: the same names.
    """
    number = np.array([*(list(order).index(name) for name in classes), -1], np.int32)
    return np.where(values >= 0, number[values], values).astype(np.int32)


def _binned(
    values: np.ndarray, classes: Sequence[str], edges: Sequence[float], asked: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    numbers = []
    for text in classes:
        number = math.nan if text.lower() in MISSING else number_of(text)
        if number is None:
            raise UsageError(f"{asked}: its class {text!r} is not a number")
        # A value of the edge itself belongs to the class above it.
        place = int(np.searchsorted(edges, number, side="right"))
        numbers.append(-1 if math.isnan(number) else place)
    found = np.where(values >= 0, np.array([*numbers, -1], np.int32)[values], -1)
    return found.astype(np.int32), bin_names(edges)


def alike(classes: Sequence[str]) -> list[list[str]]:
    """Groups of class names that are the same but for case, blanks, or how a number is written."""
    groups: dict[object, list[str]] = {}
    for text in classes:
        value = number_of(text)
        groups.setdefault(" ".join(text.casefold().split()) if value is None else value, []).append(
            text
        )
    return [group for group in groups.values() if len(group) > 1]


def number_of(text: str) -> float | None:
    """Reads a class name as a finite number; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def other_order(some: Sequence[str], others: Sequence[str]) -> bool:
    """Says if two data sets have the same classes under other numbers."""
    return tuple(some) != tuple(others) and sorted(some) == sorted(others)
