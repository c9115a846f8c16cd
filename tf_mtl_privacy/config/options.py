"""Declares and checks one option of a frozen dataclass: default, help text, allowed range."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tf_mtl_privacy.errors import UsageError


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field that knows its range: `low <= value <= high`, `value > above`."""
    limits = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def expectation(field: dataclasses.Field[Any]) -> str:
    """The range of an option in words, or an empty string."""
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
    """Checks every option of a dataclass instance against its type and range.

    Raises:
        UsageError: naming the option, its value and what was expected.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind = type(field.default)
        # An int is a fine float, but True is not a fine int.
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
