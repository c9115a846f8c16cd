"""Figures of earlier attackers, which learned from one kind of rows, often from few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OLDER = (
    "these attackers are of an earlier version, which learned from one kind of rows only; "
    "evaluate --probe=fast sends new ones"
)


def is_older(probe: Mapping[str, Any]) -> bool:
    """Tells if a `privacy.probe` is of those attackers; a low figure of theirs is no claim."""
    features = probe.get("features") or {}
    return bool(features.get("strongest")) and "by_rows" not in features


def marked(probe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the `privacy.probe`, underpowered where it is of those attackers."""
    if not is_older(probe):
        return probe
    reasons = [*(probe.get("underpowered_reasons") or ()), OLDER]
    return {**probe, "underpowered": True, "underpowered_reasons": list(dict.fromkeys(reasons))}
