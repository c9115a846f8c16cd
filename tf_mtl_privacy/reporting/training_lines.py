"""How training went, in lines: phases, gates, stop rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import count, duration, metric, metric_name
from tf_mtl_privacy.reporting.layout import fitted

_STATES = {"met": "met", "not_met": "NOT MET", "not_evaluated": "not evaluated"}
_STATE_WIDTH = 15


def training_lines(training: Mapping[str, Any] | None) -> list[str]:
    """Steps, time and epochs by phase."""
    if not training:
        return []
    facts = []
    if training.get("steps") is not None:
        facts.append(f"{count(training['steps'])} steps")
    if training.get("seconds") is not None:
        facts.append(duration(training["seconds"]))
    phases = training.get("phases") or {}
    epochs = [f"{name} {phase['epochs']}" for name, phase in phases.items()]
    return [", ".join(facts) + (f"; epochs: {', '.join(epochs)}" if epochs else "")]


def gate_lines(gates: Mapping[str, Any]) -> list[str]:
    """One line per gate: met, not met, or not evaluated, with figures on validation rows."""
    found = {phase: gate for phase, gate in gates.items() if gate is not None}
    width = min(max(map(len, found), default=0) + 2, 30)
    lines = []
    for phase, gate in found.items():
        figures = ", ".join(
            f"{metric_name(name)}{_value(name, gate['value'].get(name))} (≥ {metric(name, goal)})"
            for name, goal in gate["threshold"].items()
        )
        state = _STATES[gate["status"]].ljust(_STATE_WIDTH)
        lines.append(fitted(phase, width - 2).ljust(width) + state + figures)
    return lines


def stop_lines(rule: Mapping[str, Any] | None) -> list[str]:
    """Whether the stop rule was met, and each part with its value and bound."""
    if not rule:
        return ["not evaluated"]
    parts = rule["parts"]
    missing = sum(part["status"] == "not_evaluated" for part in parts.values())
    head = "met" if rule["met"] else "NOT MET"
    if missing:
        head += f"; {missing} of {len(parts)} parts not evaluated"
    lines = [head]
    for name, part in parts.items():
        bound = f"({direction(name)} {metric(name, part['bound'])})"
        state = _STATES[part["status"]].ljust(_STATE_WIDTH)
        lines.append(f"{state}{metric_name(name)}{_value(name, part['value'])} {bound}")
    return lines


def state_words(status: str) -> str:
    """Whether a gate or a part of the stop rule was met."""
    return _STATES[status]


def direction(name: str) -> str:
    """On which side of its bound a part of the stop rule has to be."""
    at_most = name in ("privacy", "membership") or name.endswith("_change")
    return "≤" if at_most else "≥"


def _value(name: str, value: float | None) -> str:
    return "" if value is None else f" {metric(name, value)}"
