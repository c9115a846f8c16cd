"""The figures by which finished runs are compared, out of their results.json and audit.json."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.membership.verdict import INVALID
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.reporting.formats import decibel, number, percent
from tf_mtl_privacy.reporting.mask_evidence import mask_evidence
from tf_mtl_privacy.reporting.membership_words import membership_verdict
from tf_mtl_privacy.reporting.results import SCHEMA_VERSION
from tf_mtl_privacy.reporting.standing import audit_is_of, standing_probe

AUDIT_VERSION = 1
# The false alarms at which figures of membership inference are compared, as a key of audit.json.
FALSE_ALARMS = "0.05"

# Why there is no figure: the run has no such thing, or nobody has measured it.
NONE, NOT_MEASURED = "none", "not measured"
RATE, DECIBEL, EPSILON, SECONDS = "rate", "decibel", "epsilon", "seconds"


class Source(NamedTuple):
    """Where a figure stands in results.json.

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


_RESTORED, _MAP = "privacy.probe.restored.strongest", "privacy.probe.regions.strongest"
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
    "probe_features": Source(
        "probe on features", RATE, "privacy.probe.features.strongest.accuracy"
    ),
    "probe_features_high": Source(
        "features, upper end", RATE, "privacy.probe.features.strongest.ci95.1"
    ),
    "probe_restored": Source("probe on restored", RATE, f"{_RESTORED}.accuracy", _RESTORED),
    "probe_restored_high": Source("restored, upper end", RATE, f"{_RESTORED}.ci95.1", _RESTORED),
    "probe_regions": Source("probe on regions", RATE, f"{_MAP}.accuracy", _MAP),
    "probe_regions_high": Source("regions, upper end", RATE, f"{_MAP}.ci95.1", _MAP),
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
    """A number, or None and why there is none (`NONE` or `NOT_MEASURED`)."""

    value: float | None
    absent: str = ""


class RunFigures(NamedTuple):
    """What comparisons read of one run.

    Attributes:
        figures: name in `SOURCES` -> its figure.
        label_access: what reads the private label outside of the accounting; None: not said.
        underpowered: why its fresh attackers are too weak for a claim; empty where they are not,
            or there are none.
        chance: of the private label, in [0, 1], or None.
        fingerprint: of the data, or empty.
        mask: what it says of the mask and the game, see `mask_evidence`.
        membership: what an audit's figure of membership inference is worth, see
            `membership_words.membership_verdict`; empty where no audit has one.
    """

    figures: dict[str, Figure]
    label_access: tuple[str, ...] | None
    underpowered: tuple[str, ...]
    chance: float | None
    fingerprint: str
    mask: str
    membership: str = ""


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A results.json.

    Raises:
        RunError: it is missing, damaged, or of a version that is not known here.
    """
    results = read_json(path)
    version = results.get("schema_version") if isinstance(results, dict) else None
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{path}: schema_version is {version}, expected {SCHEMA_VERSION}; evaluate the run "
            "again"
        )
    return dict(results)


def read_audit(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """An audit.json; None where there is none.

    Raises:
        RunError: it is damaged, or of a version that is not known here.
    """
    if not Path(path).exists():
        return None
    audit = read_json(path)
    version = audit.get("schema_version") if isinstance(audit, Mapping) else None
    if version != AUDIT_VERSION:
        raise RunError(
            f"{path}: schema_version is {version}, expected {AUDIT_VERSION}; audit the run again"
        )
    return dict(audit)


def run_figures(results: Mapping[str, Any], audit: Mapping[str, Any] | None = None) -> RunFigures:
    """The figures of one run; nothing is guessed where a key is missing.

    Args:
        results: the content of its results.json.
        audit: that of its audit.json, or None; one that is not of the run counts as none. Of what
            fresh attackers read in both the worse stands (`standing`), and membership inference is
            the audit's, where the stop rule mostly has not measured it.
    """
    if audit is not None and not audit_is_of(results, audit):
        audit = None
    probe = standing_probe(results, audit).probe
    results = {**results, "privacy": {**(results.get("privacy") or {}), "probe": probe}}
    figures = {name: _figure(results, source) for name, source in SOURCES.items()}
    found = _membership(audit) if audit else None
    if found:
        figures["membership"] = found
    access = _walk(results, "dp.unaccounted_label_access")[0]
    reasons: tuple[str, ...] = ()
    if _walk(results, "privacy.probe.underpowered")[0]:
        named = _walk(results, "privacy.probe.underpowered_reasons")[0] or ["no reason given"]
        reasons = tuple(named)
    return RunFigures(
        figures,
        None if access is None else tuple(access),
        reasons,
        _walk(results, "privacy.chance")[0],
        _walk(results, "evaluated_on.data_fingerprint")[0] or "",
        mask_evidence(results),
        membership_verdict(audit) if audit and found else "",
    )


def _membership(audit: Mapping[str, Any]) -> Figure | None:
    """Of the strongest attack; None where an audit has no such figure."""
    value = _walk(audit, "membership.strongest.tpr_at_fpr")[0] or {}
    rate = (value.get(FALSE_ALARMS) or {}).get("value")
    if rate is None:
        return None
    # Members that differ from others without any model: no figure is of membership.
    if membership_verdict(audit) == INVALID:
        return Figure(None, NOT_MEASURED)
    return Figure(float(rate))


def _figure(results: Mapping[str, Any], source: Source) -> Figure:
    value, ended = _walk(results, source.path)
    if value is not None:
        return Figure(float(value))
    return Figure(None, NONE if ended and ended == source.none_at else NOT_MEASURED)


def _walk(results: Mapping[str, Any], path: str) -> tuple[Any, str]:
    """What stands at `path`; None where a key is missing or null, and the path of that null."""
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
