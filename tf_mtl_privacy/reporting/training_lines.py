"""Writes how training went as lines: phases, gates, stop rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.reporting.formats import count, duration, fitted, metric, metric_name

_STATES = {
    "met": "met",
    "not_met": "NOT MET",
    "not_evaluated": "not evaluated",
    "off": "no gate set",
}
_CHANGE = "_change"
_STATE_WIDTH = 15


def training_lines(training: Mapping[str, Any] | None) -> list[str]:
    """Writes steps, time and epochs by phase."""
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
    """Writes one line per gate: its state, with figures on validation rows."""
    found = {phase: gate for phase, gate in gates.items() if gate is not None}
    width = min(max(map(len, found), default=0) + 2, 30)
    lines = []
    for phase, gate in found.items():
        is_off = gate["status"] == "off"
        figures = ", ".join(
            f"{metric_name(name)}{_value(name, gate['value'].get(name))}"
            f"{'' if is_off else f' (≥ {metric(name, goal)})'}"
            for name, goal in gate["threshold"].items()
        )
        state = _STATES[gate["status"]].ljust(_STATE_WIDTH)
        lines.append(fitted(phase, width - 2).ljust(width) + state + figures)
    return lines


def stop_head(results: Mapping[str, Any]) -> str:
    """Says if the stop rule was met, or that this setting is too short for the paper's rule.

    Args:
        results: the content of results.json.
    """
    rule = results.get("stop_rule")
    if not rule:
        return "not evaluated"
    if rule["met"]:
        return "met"
    states = {name: part["status"] for name, part in rule["parts"].items()}
    missing = [name for name, state in states.items() if state == "not_evaluated"]
    unmet = [name for name, state in states.items() if state == "not_met"]
    short = _too_short(results) if missing and all(n.endswith(_CHANGE) for n in missing) else ""
    if short and not unmet:
        return (
            f"the paper's rule is not evaluated as a whole in this setting: {short}; the other "
            f"{len(states) - len(missing)} parts are met"
        )
    if not missing:
        return "NOT MET"
    return f"NOT MET; {len(missing)} of {len(states)} parts not evaluated" + (
        f": {short}" if short else ""
    )


def _too_short(results: Mapping[str, Any]) -> str:
    """Gives the reason why no run of this setting can meet the rule's parts on change, or ''."""
    train = Config.from_dict(results.get("config") or {}).train
    if train.adversarial_epochs > train.stop_epochs:
        return ""
    return (
        f"it looks at {train.stop_epochs} changes between joint epochs, and this setting has "
        f"{train.adversarial_epochs} of these epochs"
    )


def stop_lines(results: Mapping[str, Any]) -> list[str]:
    """Writes if the stop rule was met, and each part with its value and bound."""
    lines = [stop_head(results)]
    for name, part in ((results.get("stop_rule") or {}).get("parts") or {}).items():
        bound = f"({direction(name)} {metric(name, part['bound'])})"
        state = _STATES[part["status"]].ljust(_STATE_WIDTH)
        lines.append(f"{state}{metric_name(name)}{_value(name, part['value'])} {bound}")
    return lines


def state_words(status: str) -> str:
    """Says if a gate or a part of the stop rule was met."""
    return _STATES[status]


def direction(name: str) -> str:
    """Returns the side of its bound on which a part of the stop rule has to be."""
    at_most = name in ("privacy", "membership") or name.endswith("_change")
    return "≤" if at_most else "≥"


def _value(name: str, value: float | None) -> str:
    return "" if value is None else f" {metric(name, value)}"
