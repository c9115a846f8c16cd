"""What stands where results.json and audit.json of a run say the same thing: the worse for privacy.

Either may be the older one, or of the weaker attackers, so neither goes first by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_mtl_privacy.reporting.attacker_lines import GIVEN_AWAY, TARGETS, given_away, read_right
from tf_mtl_privacy.reporting.formats import percent

_OWN = "features, own rows"
_NAMES = {**TARGETS, "planted": "a planted leak", "removal_off": "features, removal off"}

Part = Mapping[str, Any]


class Standing(NamedTuple):
    """What fresh attackers found, of both files together.

    Attributes:
        probe: as `privacy.probe` of results.json; None where neither file has one.
        told: target in words -> a sentence with both readings, where they differ.
    """

    probe: dict[str, Any] | None
    told: dict[str, str]


def audit_is_of(results: Mapping[str, Any], audit: Mapping[str, Any]) -> bool:
    """Whether an audit is of the run of a result: same configuration, same weights where named.

    An audit names the weights itself (`weights`) and with its fresh attackers; a result does so
    with its fresh attackers.
    """
    own = ((results.get("privacy") or {}).get("probe") or {}).get("weights")
    pairs = (
        (audit.get("weights"), own),
        ((audit.get("attributes") or {}).get("weights"), own),
        (audit.get("config"), results.get("config")),
    )
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def standing_probe(results: Mapping[str, Any], audit: Mapping[str, Any] | None) -> Standing:
    """For each target the reading whose interval ends higher.

    Args:
        results: the content of results.json.
        audit: that of audit.json of the same run (`audit_is_of`), or None.
    """
    own = (results.get("privacy") or {}).get("probe")
    audited = (audit or {}).get("attributes")
    if not own or not audited:
        found = audited or own
        return Standing(dict(found) if found else None, {})
    told: dict[str, str] = {}
    mine, theirs = ((probe.get("features") or {}).get("own") or {} for probe in (own, audited))
    parts = {
        name: _worse(own.get(name) or {}, audited.get(name) or {}, words, told)
        for name, words in _NAMES.items()
        if name in own or name in audited
    }
    own_rows = _worse(mine, theirs, _OWN, told)
    parts["features"] = {**parts.get("features", {}), "own": own_rows}
    before = max(own, audited, key=lambda probe: _before(probe) or 0.0).get("before_game")
    return Standing(
        {**own, **parts, "before_game": before, **_strength(own, audited)},
        told,
    )


def _worse(own: Part, audited: Part, words: str, told: dict[str, str]) -> dict[str, Any]:
    """The part that stands; where both were measured and differ, that is told."""
    mine, theirs = own.get("strongest"), audited.get("strongest")
    if not mine or not theirs:
        return dict(own if mine else audited or own)
    shown = [_reading(mine), _reading(theirs)]
    if shown[0] != shown[1]:
        told[words] = (
            f"results.json reads {shown[0]}, audit.json {shown[1]}: the larger upper end stands "
            "here"
        )
    return dict(own if mine["ci95"][1] > theirs["ci95"][1] else audited)


def _reading(best: Part) -> str:
    return f"{read_right(best)} (up to {percent(best['ci95'][1])})"


def _before(probe: Part) -> float | None:
    found: float | None = (probe.get("before_game") or {}).get("balanced_accuracy")
    return found


def _strength(own: Part, audited: Part) -> dict[str, Any]:
    """Whether attackers were strong enough, and what is said of how hard they tried.

    A higher reading beside that of strong attackers takes nothing from their claim; a target that
    only weak ones attacked has none.
    """
    probes = [own, audited]
    strong = {name for probe in probes if not probe.get("underpowered") for name in _read(probe)}
    weak = bool({name for probe in probes for name in _read(probe)} - strong)
    reasons = [r for probe in probes for r in probe.get("underpowered_reasons") or ()]
    unknown = audited.get("not_checked") or ()
    settings = [str(probe.get("setting") or "not said") for probe in probes]
    named = f"{settings[0]} in results.json, {settings[1]} in audit.json"
    return {
        "underpowered": weak,
        "underpowered_reasons": list(dict.fromkeys(reasons)) if weak else [],
        "not_checked": [name for name in own.get("not_checked") or () if name in unknown],
        "setting": settings[0] if settings[0] == settings[1] else named,
    }


def _read(probe: Part) -> set[str]:
    """What of a run was attacked, in words."""
    words = {words for words, _ in given_away({"features": {}, **probe})}
    return words & {*(TARGETS[name] for name in GIVEN_AWAY), _OWN}
