"""What figures of membership inference are worth: nothing, a little, or what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# States of the check of members against others (`same_distribution`).
ALIKE, DIFFER, NOT_SHOWN = "alike", "differ", "not_shown"
OK, NO_POWER, INVALID = "ok", "no_power", "invalid"
_CHOSEN_BY = "0.05"
# An attack that finds fewer of rows that are known by heart has little power.
_LEAST_FOUND = 0.20


def verdict(found: Mapping[str, Any], power: Mapping[str, Any] | None) -> dict[str, str]:
    """`verdict` and `verdict_reason` of the `membership` part of audit.json.

    Args:
        found: that part.
        power: its `power`: the strongest attack on a run that knows its rows by heart, or None.

    Returns:
        "invalid" where members and non-members differ without any model: no figure is about
        membership. "no_power" where a low figure says nothing, as nothing shows that these attacks
        could have found a higher one. "ok" else.
    """
    same = found["data"]["same_distribution"]
    if same["state"] == DIFFER:
        return _said(INVALID, "members and non-members are told apart without any model")
    if same["state"] == NOT_SHOWN:
        rows = "there are too few rows to show that members and non-members are drawn alike"
        return _said(NO_POWER, rows)
    if power is None:
        return _said(NO_POWER, "no overfitted run was attacked to show what attacks can find")
    if not shows_power(power):
        return _said(NO_POWER, f"too little was found in {power['run_dir']} either")
    best = f"{power['attack']} on {power['target']}".replace("_", " ")
    return _said(
        OK,
        f"one of the same attacks, {best}, finds {_value(power):.0%} of the rows of "
        f"{power['run_dir']}",
    )


def shows_power(power: Mapping[str, Any]) -> bool:
    """Whether the attacks found rows of the run that was to show their power: a fifth or more.

    Args:
        power: see `verdict`; one without a check of members against others passes it.
    """
    check = (power.get("data") or {}).get("same_distribution") or {}
    ends = power["tpr_at_fpr"][_CHOSEN_BY]["ci95"]
    found = bool(ends) and ends[0] > float(_CHOSEN_BY)
    return bool(check.get("ok", True) and found and _value(power) >= _LEAST_FOUND)


def _value(power: Mapping[str, Any]) -> float:
    return float(power["tpr_at_fpr"][_CHOSEN_BY]["value"])


def _said(name: str, reason: str) -> dict[str, str]:
    return {"verdict": name, "verdict_reason": reason}
