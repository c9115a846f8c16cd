"""Writes what fresh attackers read as lines: the worst first, beside chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.evaluation.probes.bounds import OPEN
from tf_mtl_privacy.reporting.formats import at_most, count, percent
from tf_mtl_privacy.reporting.reconcile_probes import TARGETS, entry, given_away, reading_text

# Not every encoder has them: left out where they were not measured.
_OPTIONAL = ("one_draw", "noiseless", "regions", "features_and_regions", "masked_pictures")
_KINDS = {"own": "rows that the encoder was trained on", "unseen": "unseen rows"}
_NOT_CHECKED = {
    "pixels": "pixels",
    "planted": "a planted leak",
    "removal_off": "a run with removal off (--removal_off)",
    "patience": "patient attackers (--probe=thorough)",
}
_POWER = ("pixels", "planted")


def attacker_lines(privacy: Mapping[str, Any], found: Mapping[str, Any] | None) -> list[str]:
    """Writes what fresh attackers read.

    Args:
        privacy: that part of results.json.
        found: what `reconcile_probes.leakage` makes of the result.
    """
    if not privacy["classes"]:
        return []
    if found is None:
        return ["not measured, so nothing is claimed; evaluate --probe=fast does it"]
    return [
        *_headline(privacy, found),
        *_targets(found),
        *_references(privacy, found),
        *found["told"],
        *_power(found),
        *claim_lines(found),
    ]


def headline_text(found: Mapping[str, Any]) -> str:
    """Writes the worst reading in short: `41.0 % from restored images (at most 43.7 %)`."""
    worst = found["worst"]
    target, upper = TARGETS[worst["target"]], TARGETS[worst["upper_target"]]
    also = f", from {upper}" if upper != target else ""
    return f"{percent(worst['accuracy'])} from {target} (upper end {at_most(worst['upper'])}{also})"


def claim_lines(found: Mapping[str, Any]) -> list[str]:
    """Writes the bound that a run is held to, or why there is none."""
    claim, worst = found["claim"], found["worst"]
    if claim:
        words = TARGETS[claim["target"]]
        covers = (
            "holds for all attackers that were tried together"
            if claim["all_attackers"]
            else "is the largest of their intervals, not corrected for their number"
        )
        return [
            f"claim: at most {at_most(claim['upper'])} is read by these attackers, from {words} "
            f"(the highest reading is {percent(worst['accuracy'])}; the bound {covers}, at "
            f"{percent(claim['level'], 0)} confidence)"
        ]
    if not found["refused"]:
        return []
    first, *others = found["refused"]
    weak = "UNDERPOWERED: " if found["underpowered"] else ""
    return [f"{weak}NO CLAIM: {first}", *(f"also: {reason}" for reason in others)]


def unchecked(found: Mapping[str, Any]) -> list[str]:
    """Names the references on which the attackers' strength is not known, as a line or none."""
    missing = list(found["not_checked"])
    if missing == ["removal_off"]:
        # A comparison that needs a second run; pixels and the planted leak have shown the power.
        return ["no run with removal off was given for comparison (--removal_off=OTHER_RUN_DIR)"]
    names = ", ".join(_NOT_CHECKED.get(name, name) for name in missing)
    return [f"strength not checked on {names}"] if names else []


def _headline(privacy: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if found["worst"]:
        yield f"worst: {headline_text(found)}; chance {percent(privacy['chance'])}"


def _targets(found: Mapping[str, Any]) -> Iterator[str]:
    for words, figures in given_away(found):
        yield f"{words}: {reading_text(figures)}{_by_rows(figures)}"
        if figures["trend"] in OPEN:
            told = figures["trend_words"] or f"{figures['trend']} with more rows"
            yield f"{words}: {told}"
    attacked = {words for words, _ in given_away(found)}
    for name, words in TARGETS.items():
        figures = entry(found, name)
        if words in attacked or (figures["accuracy"] is None and name in _OPTIONAL):
            continue
        if figures["accuracy"] is None:
            yield f"{words}: not measured: {figures['reason']}"
        else:
            yield f"{words}: {reading_text(figures)}"


def _by_rows(figures: Mapping[str, Any]) -> str:
    """Writes the rows that attackers learned from; of several kinds, what each of them gave."""
    parts = figures["by_rows"]
    if len(parts) < 2:
        # Of the attacker that is named, not of the others.
        if not figures["rows"]:
            return ""
        return f", learned from {_rows(figures, figures['trained_on'])}"
    told = [
        f"{percent(part['accuracy'])} (upper end {at_most(part['upper'])}) learned from "
        f"{_rows(part, kind)}"
        for kind, part in parts.items()
    ]
    return f"; of these {', '.join(told)}"


def _rows(part: Mapping[str, Any], kind: str | None) -> str:
    known = [count(part["rows"])] if part["rows"] else []
    return " ".join([*known, _KINDS.get(kind or "", "rows")])


def _references(privacy: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    off = entry(found, "removal_off")
    if off["accuracy"] is not None:
        yield f"with removal off: {reading_text(off)}"
    if found["before_game"] is not None:
        yield (
            f"before the game, features: balanced {percent(found['before_game'])} of validation "
            "rows"
        )
    yield f"chance {percent(privacy['chance'])}, majority {percent(privacy['majority'])}"


def _power(found: Mapping[str, Any]) -> Iterator[str]:
    """Says what the attackers found where there was something to find."""
    shown = [
        f"{_NOT_CHECKED[name]} ({percent(entry(found, name)['accuracy'])})"
        for name in _POWER
        if entry(found, name)["accuracy"] is not None
    ]
    if shown and not found["underpowered"]:
        yield f"power of the attackers: they read {' and '.join(shown)}"
    yield from unchecked(found)
