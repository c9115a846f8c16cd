"""The figures by which finished runs are compared, out of their results.json and audit.json."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tf_mtl_privacy.evaluation.membership.verdict import INVALID
from tf_mtl_privacy.evaluation.probes.bounds import OPEN, RISING, UNCLEAR
from tf_mtl_privacy.reporting.formats import decibel, number, percent
from tf_mtl_privacy.reporting.mask_evidence import mask_evidence
from tf_mtl_privacy.reporting.membership_words import highest_rate, membership_verdict
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, given_away, leakage

_TRENDS = {RISING: "still rises", UNCLEAR: "may still rise"}

# Why there is no figure: the run has no such thing, nobody has measured it, or it does not hold.
NONE, NOT_MEASURED, VOID = "none", "not measured", "void"
RATE, DECIBEL, EPSILON, SECONDS = "rate", "decibel", "epsilon", "seconds"


class Source(NamedTuple):
    """The place of a figure in results.json.

    Attributes:
        title: what it is, in a few words.
        unit: `RATE` (in [0, 1]), `DECIBEL`, `EPSILON` or `SECONDS`.
        path: its keys (of a list, the position), joined by dots.
        none_at: where a null says that the run has no such thing; empty for nowhere. A null
            elsewhere on the path, or a missing key, says that it was not measured.
    """

    title: str
    unit: str
    path: str
    none_at: str = ""


_LEAKAGE = "privacy.leakage"
SOURCES = {
    "gender": Source("gender accuracy", RATE, "utility.gender.accuracy"),
    "age": Source("age accuracy", RATE, "utility.age.accuracy"),
    "expression_f1": Source("expression F1", RATE, "utility.expression.f1"),
    "psnr_db": Source("PSNR", DECIBEL, "restoration.psnr_db", "restoration.psnr_db"),
    "discriminator": Source(
        "in-loop discriminator",
        RATE,
        "privacy.discriminator.accuracy",
        "privacy.discriminator",
    ),
    "probe_features": Source("probe on features", RATE, f"{_LEAKAGE}.features.accuracy"),
    "probe_features_high": Source("features, upper end", RATE, f"{_LEAKAGE}.features.upper"),
    # A null there says that the model has no such thing; a target that nobody attacked has no key.
    "probe_restored": Source("probe on restored", RATE, *2 * [f"{_LEAKAGE}.restored.accuracy"]),
    "probe_restored_high": Source("restored, upper end", RATE, *2 * [f"{_LEAKAGE}.restored.upper"]),
    "probe_regions": Source("probe on regions", RATE, *2 * [f"{_LEAKAGE}.regions.accuracy"]),
    "probe_regions_high": Source("regions, upper end", RATE, *2 * [f"{_LEAKAGE}.regions.upper"]),
    "leakage": Source("leakage, worst target", RATE, f"{_LEAKAGE}.worst.accuracy"),
    "leakage_high": Source("worst target, upper end", RATE, f"{_LEAKAGE}.worst.upper"),
    "membership": Source("membership inference", RATE, "stop_rule.parts.membership.value"),
    "epsilon_conditional": Source(
        "epsilon, D conditional",
        EPSILON,
        "dp.conditional.discriminator",
        "dp.conditional.discriminator",
    ),
    "epsilon_released": Source(
        "epsilon, released", EPSILON, "dp.released.encoder", "dp.released.encoder"
    ),
    "seconds": Source("training time", SECONDS, "training.seconds"),
}


class Figure(NamedTuple):
    """A number, or None and why there is none (`NONE`, `NOT_MEASURED` or `VOID`)."""

    value: float | None
    absent: str = ""


class RunFigures(NamedTuple):
    """Figures of one run for comparisons.

    Attributes:
        figures: name in `SOURCES` -> its figure.
        label_access: what reads the private label outside of the accounting; None: not said.
        underpowered: why its fresh attackers are too weak for a claim, or what they read still
            rises with their rows; empty where neither holds, or there are none.
        refused: why no bound is claimed on what fresh attackers read; empty where one is, or there
            are none.
        chance: of the private label, in [0, 1], or None.
        fingerprint: of the data, or empty.
        mask: what it says of the mask and the game, see `mask_evidence`.
        membership: what an audit's figure of membership inference is worth, see
            `membership_words.membership_verdict`; empty where no audit has one.
        void: why no epsilon of its private updates holds; empty where one does, or it has none.
    """

    figures: dict[str, Figure]
    label_access: tuple[str, ...] | None
    underpowered: tuple[str, ...]
    chance: float | None
    fingerprint: str
    mask: str
    membership: str = ""
    refused: tuple[str, ...] = ()
    void: str = ""


def run_figures(results: Mapping[str, Any], audit: Mapping[str, Any] | None = None) -> RunFigures:
    """The figures of one run; nothing is guessed where a key is missing.

    Args:
        results: the content of its results.json.
        audit: that of its audit.json, or None; one that is not of the run counts as none. What
            fresh attackers read is the worst of everything that is known
            (`reconcile_probes.leakage`), and membership inference is the audit's, where the stop
            rule mostly has not measured it.
    """
    if audit is not None and not audit_is_of(results, audit):
        audit = None
    found = leakage(results, audit)
    results = {**results, "privacy": {**(results.get("privacy") or {}), "leakage": found}}
    figures = {name: _figure(results, source) for name, source in SOURCES.items()}
    dp = results.get("dp") or {}
    void = str(dp.get("void_reason") or "no reason is given") if dp.get("void") else ""
    if void:
        which = "epsilon_released" if dp.get("scope") == "all" else "epsilon_conditional"
        figures[which] = Figure(None, VOID)
    member = _membership(audit) if audit else None
    if member:
        figures["membership"] = member
    access = _walk(results, "dp.unaccounted_label_access")[0]
    return RunFigures(
        figures,
        None if access is None else tuple(access),
        tuple(_weakness(found)),
        _walk(results, "privacy.chance")[0],
        _walk(results, "evaluated_on.data_fingerprint")[0] or "",
        mask_evidence(results),
        membership_verdict(audit) if audit and member else "",
        tuple((found or {}).get("refused") or ()),
        void,
    )


def _weakness(found: Mapping[str, Any] | None) -> list[str]:
    """Gives the reasons why a low figure may only mean weak attackers."""
    if not found:
        return []
    reasons = list(found["underpowered_reasons"])
    if found["underpowered"] and not reasons:
        reasons = ["no reason given"]
    return reasons + [
        f"{words}: what attackers read {_TRENDS[part['trend']]} with their rows"
        for words, part in given_away(found)
        if part["trend"] in OPEN
    ]


def _membership(audit: Mapping[str, Any]) -> Figure | None:
    """Takes the highest of all attacks; None where an audit has no such figure."""
    if not (audit.get("membership") or {}).get("strongest"):
        return None
    # Members that differ from others without any model: no figure is of membership.
    if membership_verdict(audit) == INVALID:
        return Figure(None, NOT_MEASURED)
    rate = highest_rate(audit)
    return None if rate is None else Figure(rate[0])


def _figure(results: Mapping[str, Any], source: Source) -> Figure:
    value, ended = _walk(results, source.path)
    if value is not None:
        return Figure(float(value))
    return Figure(None, NONE if ended and ended == source.none_at else NOT_MEASURED)


def _walk(results: Mapping[str, Any], path: str) -> tuple[Any, str]:
    """Returns the value at `path`, or None and the path of the null that ends it."""
    found: Any = results
    keys = path.split(".")
    for depth, key in enumerate(keys, start=1):
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None, ""
        if found is None:
            return None, ".".join(keys[:depth])
    return found, path


def spread(figures: Iterable[Figure]) -> dict[str, Any]:
    """Mean and spread over runs.

    Returns:
        `values` (one per run, None where there is none), `n` of them that are there, `mean`,
        `std` (sample standard deviation; None for fewer than two), `min`, `max`, and `absent`: why
        there is no value at all, else None.
    """
    figures = list(figures)
    values = [figure.value for figure in figures]
    known = [value for value in values if value is not None]
    # Where one run has no such thing and another was not measured, the latter may still be.
    absent = NONE if figures and all(f.absent == NONE for f in figures) else NOT_MEASURED
    if any(figure.absent == VOID for figure in figures):
        absent = VOID
    return {
        "values": values,
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known) if known else None,
        "max": max(known) if known else None,
        "absent": None if known else absent,
    }


def figure_text(unit: str, value: float, digits: int = 1) -> str:
    """A figure with its unit: `97.3 %`, `26.4 dB`, `0.5000`, `283 s`."""
    if unit == RATE:
        return percent(value, digits)
    if unit == DECIBEL:
        return decibel(value)
    return number(value) if unit == EPSILON else f"{value:,.0f} s"
