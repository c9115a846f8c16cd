"""What figures of membership inference are worth: nothing, a little, or what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.evaluation.membership.same_distribution import DIFFER, NOT_SHOWN

OK, NO_POWER, INVALID = "ok", "no_power", "invalid"
_CHOSEN_BY = "0.05"


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
    checked = power["data"].get("same_distribution", {})
    low = (power["tpr_at_fpr"][_CHOSEN_BY]["ci95"] or [0.0])[0]
    if not checked.get("ok", True) or low <= float(_CHOSEN_BY):
        return _said(NO_POWER, f"nothing was found in {power['run_dir']} either")
    return _said(OK, f"the same attacks found the rows of {power['run_dir']}")


def _said(name: str, reason: str) -> dict[str, str]:
    return {"verdict": name, "verdict_reason": reason}
