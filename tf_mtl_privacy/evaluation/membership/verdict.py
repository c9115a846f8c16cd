"""Judges if the figures of membership attacks are valid and conclusive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

# States of the check that members and non-members are drawn alike (`claims.same_distribution`).
ALIKE, DIFFER, NOT_SHOWN = "alike", "differ", "not_shown"
OK, NO_POWER, INVALID = "ok", "no_power", "invalid"
_CHOSEN_BY = "0.05"
# An attack that finds a smaller share of an overfitted run's members has little power.
_MIN_FOUND = 0.20


class Verdict(TypedDict):
    """Keys of the `membership` part of audit.json."""

    verdict: str
    verdict_reason: str


def verdict(membership: Mapping[str, Any], power: Mapping[str, Any] | None) -> Verdict:
    """Judges the figures of membership attacks.

    Args:
        membership: the `membership` part of audit.json.
        power: its `power`: the strongest attack on an overfitted reference run, or None.

    Returns:
        "invalid" where members and non-members differ without any model, so that no figure is about
        membership; "no_power" where nothing shows that these attacks could have found more; else
        "ok".
    """
    same = membership["data"]["same_distribution"]
    if same["state"] == DIFFER:
        return _verdict(INVALID, "members and non-members are told apart without any model")
    if same["state"] == NOT_SHOWN:
        rows = "there are too few rows to show that members and non-members are drawn alike"
        return _verdict(NO_POWER, rows)
    if power is None:
        return _verdict(NO_POWER, "no overfitted run was attacked to show what attacks can find")
    if not shows_power(power):
        return _verdict(NO_POWER, f"too little was found in {power['run_dir']} either")
    best = f"{power['attack']} on {power['target']}".replace("_", " ")
    return _verdict(
        OK,
        f"one of the same attacks, {best}, finds {_value(power):.0%} of the rows of "
        f"{power['run_dir']}",
    )


def shows_power(power: Mapping[str, Any]) -> bool:
    """Returns True if the attacks found a fifth or more of the reference run's members.

    Args:
        power: see `verdict`; one without a check of its samples passes that check.
    """
    check = (power.get("data") or {}).get("same_distribution") or {}
    ends = power["tpr_at_fpr"][_CHOSEN_BY]["ci95"]
    above = bool(ends) and ends[0] > float(_CHOSEN_BY)
    return bool(check.get("ok", True) and above and _value(power) >= _MIN_FOUND)


def _value(power: Mapping[str, Any]) -> float:
    return float(power["tpr_at_fpr"][_CHOSEN_BY]["value"])


def _verdict(name: str, reason: str) -> Verdict:
    return {"verdict": name, "verdict_reason": reason}
