"""What fresh attackers read, in lines: the leakage, beside what a guess gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import count, interval, percent

_TARGETS = {
    "features": "features",
    "restored": "restored images",
    "logits": "business logits",
    "pixels": "pixels",
    "untrained": "untrained encoder",
}
_KINDS = {"own": "of the encoder's own training rows", "unseen": "unseen rows"}
_NOT_CHECKED = {
    "pixels": "pixels",
    "planted": "a planted leak",
    "removal_off": "a run with removal off (--removal_off)",
}


def attacker_lines(privacy: Mapping[str, Any]) -> list[str]:
    """The `privacy` part of results.json, as far as it is about fresh attackers."""
    probe = privacy.get("probe")
    if not privacy["classes"]:
        return []
    if probe is None:
        return ["not measured, so nothing is claimed; evaluate --probe=fast does it"]
    lines = [_line(words, probe[name]) for name, words in _TARGETS.items()]
    if probe["features"]["own"]["strongest"]:
        lines.insert(1, _line("features, own rows", probe["features"]["own"]))
    if probe["removal_off"]["strongest"]:
        lines.append(_line("with removal off", probe["removal_off"]))
    lines.append(f"chance {percent(privacy['chance'])}, majority {percent(privacy['majority'])}")
    if probe["features"]["strongest"]:
        rows, kind = probe["features"]["rows"], _KINDS[probe["features"]["trained_on"]]
        lines.append(f"setting {probe['setting']}: attackers learned from {count(rows)} {kind}")
    return [*lines, *_power(probe)]


def _line(words: str, target: Mapping[str, Any]) -> str:
    best = target["strongest"]
    if best is None:
        return f"{words}: not measured: {target['reason']}"
    return (
        f"{words}: {percent(best['accuracy'])} (95 % interval {interval(best['ci95'])}), balanced "
        f"{percent(best['balanced_accuracy'])}, by {best['name']}"
    )


def _power(probe: Mapping[str, Any]) -> list[str]:
    missing = ", ".join(_NOT_CHECKED[name] for name in probe["not_checked"])
    note = [f"strength not checked on {missing}"] if missing else []
    if probe["underpowered"]:
        reasons = "; ".join(probe["underpowered_reasons"])
        return [f"UNDERPOWERED: NO CLAIM: {reasons}", *note]
    return note
