"""Options of frozen dataclasses (default, help, range), and parsers of list values."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

from tf_mtl_privacy.errors import UsageError


def parse_tasks(text: str) -> dict[str, str]:
    """Parses `'gender=Male,age=Young'` into `{'gender': 'Male', 'age': 'Young'}`.

    Raises:
        UsageError: text of another form, or a repeated name.
    """
    tasks: dict[str, str] = {}
    for part in text.split(","):
        name, equals, attribute = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not equals or not attribute or name in tasks:
            raise UsageError(
                f"--tasks={text}: expected name=attribute[,name=attribute], each name once"
            )
        tasks[name] = attribute
    return tasks


def parse_thresholds(flag: str, text: str) -> dict[str, float]:
    """Parses `'gender=0.95,age=0.80'` into `{'gender': 0.95, 'age': 0.8}`; empty text gives `{}`.

    Raises:
        UsageError: text of another form, or a value outside [0, 1].
    """
    thresholds: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not name.strip().isidentifier() or not 0 <= value <= 1:
            raise UsageError(f"--{flag}={text}: expected task=accuracy with accuracy in [0, 1]")
        thresholds[name.strip()] = value
    return thresholds


def parse_bins(text: str) -> dict[str, tuple[float, ...]]:
    """Parses `'years=18:40,height=170'` into `{'years': (18.0, 40.0), 'height': (170.0,)}`.

    Raises:
        UsageError: text of another form, a repeated attribute, or edges that do not increase.
    """
    bins: dict[str, tuple[float, ...]] = {}
    for name, parts in _attribute_lists("bins", text, "attribute=EDGE:EDGE, edges increasing"):
        try:
            edges = tuple(float(part) for part in parts)
        except ValueError:
            edges = (math.nan,)
        if not all(map(math.isfinite, edges)) or any(a >= b for a, b in itertools.pairwise(edges)):
            raise UsageError(
                f"--bins={text}: {name}: expected increasing numbers separated by colons"
            )
        bins[name] = edges
    return bins


def parse_class_order(text: str) -> dict[str, tuple[str, ...]]:
    """Parses `'mood=sad:glad'` into `{'mood': ('sad', 'glad')}`.

    Raises:
        UsageError: text of another form, or a repeated attribute or class.
    """
    order = dict(_attribute_lists("class_order", text, "attribute=CLASS:CLASS"))
    for name, classes in order.items():
        if len(set(classes)) != len(classes):
            raise UsageError(f"--class_order={text}: {name}: expected each class once")
    return order


def _attribute_lists(flag: str, text: str, form: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields (attribute, values) of the comma-separated parts `attribute=a:b`."""
    seen: set[str] = set()
    for part in text.split(",") if text else ():
        name, equals, values = (piece.strip() for piece in part.partition("="))
        items = tuple(item.strip() for item in values.split(":"))
        if not name or not equals or not all(items) or name in seen:
            raise UsageError(f"--{flag}={text}: expected {form}, each attribute once")
        seen.add(name)
        yield name, items


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Returns a dataclass field with help and range: `low <= value <= high`, `value > above`."""
    limits = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def expectation(field: dataclasses.Field[Any]) -> str:
    """Returns the range of an option in words, or an empty string."""
    meta = field.metadata
    if meta.get("choices"):
        return "one of " + ", ".join(meta["choices"])
    parts = []
    if meta.get("above") is not None:
        parts.append(f"> {meta['above']}")
    if meta.get("low") is not None:
        parts.append(f">= {meta['low']}")
    if meta.get("high") is not None:
        parts.append(f"<= {meta['high']}")
    return " and ".join(parts)


def check_options(config: Any) -> None:
    """Checks each option of a dataclass instance against its type and range.

    Raises:
        UsageError: names the option, its value and the expected range.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind = type(field.default)
        # An int is accepted as a float; a bool is not accepted as an int.
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"--{field.name}={value!r}: expected a value of type {kind.__name__}")
        if not _within(value, field.metadata):
            raise UsageError(f"--{field.name}={value}: expected {expectation(field)}")


def _within(value: Any, meta: Any) -> bool:
    if meta.get("choices"):
        return value in meta["choices"]
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if meta.get("above") is not None and not value > meta["above"]:
        return False
    if meta.get("low") is not None and not value >= meta["low"]:
        return False
    return not (meta.get("high") is not None and not value <= meta["high"])
