"""What fresh attackers read, in lines: the leakage, beside what a guess gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import count, interval, percent

TARGETS = {
    "features": "features",
    "one_draw": "features, one draw of noise",
    "noiseless": "features without noise",
    "regions": "the mask",
    "features_and_regions": "features and mask",
    "restored": "restored images",
    "logits": "business logits",
    "pixels": "pixels",
    "untrained": "untrained encoder",
}
# Not every encoder has them: left out where they were not measured.
_OPTIONAL = ("one_draw", "noiseless", "regions", "features_and_regions")
# What a run gives away; features without noise it does not.
GIVEN_AWAY = ("features", "one_draw", "regions", "features_and_regions", "restored", "logits")
_KINDS = {"own": "of the encoder's own training rows", "unseen": "unseen rows"}
_NOT_CHECKED = {
    "pixels": "pixels",
    "planted": "a planted leak",
    "removal_off": "a run with removal off (--removal_off)",
    "patience": "more updates (--probe=thorough)",
}


def attacker_lines(privacy: Mapping[str, Any]) -> list[str]:
    """The `privacy` part of results.json, as far as it is about fresh attackers."""
    probe = privacy.get("probe")
    if not privacy["classes"]:
        return []
    if probe is None:
        return ["not measured, so nothing is claimed; evaluate --probe=fast does it"]
    lines = [
        _line(words, probe[name])
        for name, words in TARGETS.items()
        if name not in _OPTIONAL or probe[name]["strongest"]
    ]
    if probe["features"]["own"]["strongest"]:
        lines.insert(1, _line("features, own rows", probe["features"]["own"]))
    if probe["removal_off"]["strongest"]:
        lines.append(_line("with removal off", probe["removal_off"]))
    before = probe["before_game"]["balanced_accuracy"]
    if before is not None:
        lines.append(f"before the game, features: balanced {percent(before)} of validation rows")
    lines.append(f"chance {percent(privacy['chance'])}, majority {percent(privacy['majority'])}")
    if probe["features"]["strongest"]:
        rows, kind = probe["features"]["rows"], _KINDS[probe["features"]["trained_on"]]
        lines.append(f"setting {probe['setting']}: attackers learned from {count(rows)} {kind}")
    return [*lines, *_power(probe), *_claim(probe)]


def _line(words: str, target: Mapping[str, Any]) -> str:
    best = target["strongest"]
    if best is None:
        return f"{words}: not measured: {target['reason']}"
    return f"{words}: {reading_text(best)}"


def read_right(best: Mapping[str, Any] | None) -> str:
    """The figure by which an attacker counts wherever there is room for one: plain accuracy.

    It is the share of test pictures that `ci95` is about; a balanced accuracy is always called so.
    """
    return percent(best["accuracy"] if best else None)


def reading_text(best: Mapping[str, Any]) -> str:
    """What one attacker reads, in a line."""
    return (
        f"{read_right(best)} (95 % interval {interval(best['ci95'])}), balanced "
        f"{percent(best['balanced_accuracy'])}, by {best['name']}"
    )


def given_away(probe: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(in words, `strongest`) of all that a run gives away, as far as it was attacked."""
    found = [
        (TARGETS[name], probe[name]["strongest"])
        for name in GIVEN_AWAY
        if (probe.get(name) or {}).get("strongest")
    ]
    own = (probe["features"].get("own") or {}).get("strongest")
    return [*found, ("features, own rows", own)] if own else found


def _claim(probe: Mapping[str, Any]) -> list[str]:
    """The bound that a run is held to: nothing where attackers are too weak for one.

    Of accuracy and balanced accuracy the one that ends higher: attackers are trained for the
    second, and where classes are uneven the first may be below that of the most frequent one.
    """
    ends = [(_highest(best), words) for words, best in given_away(probe)]
    if probe["underpowered"] or not ends:
        return []
    high, words = max(ends)
    return [
        f"claim: at most {percent(high)} is read by these attackers, from {words} (upper end of "
        "the interval)"
    ]


def _highest(best: Mapping[str, Any]) -> float:
    """The higher upper end; results of before there were two have one."""
    return float(max(best["ci95"][1], *best.get("balanced_ci95", [])[1:], 0.0))


def unchecked(probe: Mapping[str, Any]) -> list[str]:
    """On what the attackers' strength is not known, as a line or none."""
    missing = ", ".join(_NOT_CHECKED[name] for name in probe["not_checked"])
    return [f"strength not checked on {missing}"] if missing else []


def _power(probe: Mapping[str, Any]) -> list[str]:
    note = unchecked(probe)
    if probe["underpowered"]:
        reasons = "; ".join(probe["underpowered_reasons"])
        return [f"UNDERPOWERED: NO CLAIM: {reasons}", *note]
    return note
