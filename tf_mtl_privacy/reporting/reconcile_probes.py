"""Reconciles all attacker readings of the same weights, keeping the highest leakage estimate.

This module alone computes `privacy.leakage` of results.json, through `leakage`. The terminal, the
report, the privacy card, the comparison of runs and the table of models read that section and
nothing else about the private label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.config.renamed import with_new_names
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.probes.bounds import FLAT, NOT_MEASURED, OPEN, RISING, marked
from tf_mtl_privacy.evaluation.train_test_overlap import PLACES
from tf_mtl_privacy.reporting.formats import at_most, percent, reworded

TARGETS = {
    "features": "features",
    "one_draw": "features with one draw of noise",
    "noiseless": "features without noise",
    "regions": "the mask",
    "features_and_regions": "features and mask",
    "restored": "restored images",
    "logits": "task logits",
    "masked_pictures": "masked images",
    "pixels": "pixels",
    "untrained": "an untrained encoder",
}
# The targets that a run releases. Features without noise and masked images stay inside.
RELEASED = ("features", "one_draw", "regions", "features_and_regions", "restored", "logits")
# Targets computed from another one by the networks alone.
_MADE_FROM = {
    "masked_pictures": ("features", "one_draw", "restored", "logits"),
    "features": ("restored", "logits"),
}
# References show the power of the attackers. A higher figure flatters them, so only the attacker
# chosen beforehand counts.
_REFERENCES = ("pixels", "untrained", "planted", "removal_off")
_NAMES = {**TARGETS, "planted": "a planted leak", "removal_off": "features without removal"}
CHECK = "the run's own check in training"
_ONLY_UPPER = f"{CHECK} (only its upper end is known)"
# Options that change neither the images of the check in training nor their labels.
_SAME_VALIDATION = {*PLACES, "test_rows"}
_LEVEL = 0.95
# Closer measurements do not disagree, but the larger one still counts. A bound over more
# attackers is always a little wider.
_DIFFERENT = {"read": 0.005, "upper": 0.01}
# The entry of a target that was not attacked.
NOTHING = {"accuracy": None, "upper": None, "reason": "not measured"}

Part = Mapping[str, Any]


class Reading(NamedTuple):
    """The accuracy of one attacker in one measurement.

    Attributes:
        source: the measurement, in words.
        attacker: its name.
        accuracy: in [0, 1], or None.
        balanced: balanced accuracy, in [0, 1], or None.
        upper: the higher upper bound of the two intervals, or None.
        trained_on: 'unseen', 'own', or None.
        rows: number of training rows of the attacker, or None.
        all_attackers: whether `upper` holds jointly for all attackers of the measurement.
    """

    source: str
    attacker: str
    accuracy: float | None
    balanced: float | None
    upper: float | None
    trained_on: str | None = None
    rows: int | None = None
    all_attackers: bool = False

    @property
    def read(self) -> float | None:
        """The higher of accuracy and balanced accuracy."""
        return _largest(self.accuracy, self.balanced)


class _Measurement(NamedTuple):
    """One set of attackers.

    Attributes:
        source: in words.
        probe: its readings, shaped like `privacy.probe`.
        is_whole: whether it is a complete `privacy.probe`, with checks of the attackers' strength.
    """

    source: str
    probe: Part
    is_whole: bool


def audit_is_of(results: Mapping[str, Any], audit: Mapping[str, Any]) -> bool:
    """Tells if an audit and a result are of the same run.

    Both may name their weights: an audit in `weights` and with its fresh attackers, a result with
    its fresh attackers and in `privacy.leakage`. If both do, the weights decide. Otherwise the
    configurations must be equal; between versions of the package they differ in options that only
    one version has, so they are not compared if the weights are known.
    """
    privacy = results.get("privacy") or {}
    parts = [privacy.get(name) or {} for name in ("probe", "leakage")]
    own = {part["weights"] for part in parts if part.get("weights")}
    parts = [audit, audit.get("attributes") or {}]
    audited = {part["weights"] for part in parts if part.get("weights")}
    if own and audited:
        return own == audited
    mine, audited_config = results.get("config"), audit.get("config")
    if mine is None or audited_config is None:
        return True
    return with_new_names(audited_config) == with_new_names(mine)


def leakage(
    results: Mapping[str, Any],
    audit: Mapping[str, Any] | None = None,
    others: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any] | None:
    """Builds `privacy.leakage` from all measurements of the same weights.

    Each target gets the maximum over all attackers of `privacy.probe`, the check that training made
    on the released weights, the audit, `others`, and an earlier `privacy.leakage` of the result. A
    further measurement can raise a figure but never lower it.

    Args:
        results: content of results.json, of one set of weights.
        audit: content of audit.json of the same run (`audit_is_of`), or None.
        others: further measurements of the same weights, each shaped like `privacy.probe` with a
            key `source`, its name; they have no checks of their attackers' strength.

    Returns:
        None if the data has no private label or nothing was measured. Otherwise, for each target,
        `accuracy` (the largest of any attacker, plain or balanced), `balanced_accuracy`, `upper`
        (the largest upper bound), `attacker`, `source`, `upper_source`, `rows`, `trained_on`,
        `by_rows`, `trend`, `trend_words`, `readings`, or `accuracy` and `upper` None with a
        `reason` (targets named by no measurement are left out, see `entry`); and `worst`, `claim`,
        `refused`, `rises`, `told`, `setting`, `underpowered`, `underpowered_reasons`,
        `not_checked`, `before_game`, `weights`. docs/results-schema.md explains each.
    """
    privacy = results.get("privacy") or {}
    if not privacy.get("classes", 1):
        return None
    earlier = privacy.get("leakage") or {}
    measurements = _measurements(privacy.get("probe"), audit, others)
    found = {name: _readings(name, measurements, earlier) for name in _NAMES}
    found["features"] += _of_check(results, found["features"])
    if not measurements and not any(found.values()):
        return None
    told: list[str] = []
    rises = _rises(measurements, earlier)
    parts = {
        name: {
            **_target(name, readings, measurements, told),
            **_trend(name, readings, measurements, rises, earlier),
        }
        for name, readings in found.items()
        if readings or name in earlier or any(name in m.probe for m in measurements)
    }
    told += _made_from(parts)
    worst = _worst(parts)
    # Cached readings carry no check of their attackers' strength.
    probes = [measurement.probe for measurement in measurements if measurement.is_whole]
    strength = _strength(probes, earlier)
    refused = _refused(results, measurements, rises, strength) if worst else []
    claim = None
    if worst and not refused:
        target = worst["upper_target"]
        claim = {
            "upper": worst["upper"],
            "target": target,
            "level": _level(probes),
            "all_attackers": parts[target]["all_attackers"],
        }
    return {
        **parts,
        "worst": worst,
        "claim": claim,
        "refused": refused,
        "rises": rises,
        "told": told,
        "before_game": _before(probes, earlier),
        "weights": next((p["weights"] for p in probes if p.get("weights")), None)
        or earlier.get("weights"),
        **strength,
    }


def carried(
    earlier: Mapping[str, Any] | None, weights: str, matches: Callable[[str], bool | None]
) -> dict[str, Any] | None:
    """Returns the `privacy.leakage` of an earlier result if it is of the same weights and data.

    Args:
        earlier: content of the results.json about to be replaced, or None.
        weights: digest of the weights evaluated now.
        matches: tells if the data evaluated now has a given fingerprint, see `Dataset.matches`; an
            empty one stands for data without fingerprint.
    """
    found = ((earlier or {}).get("privacy") or {}).get("leakage")
    data = ((earlier or {}).get("evaluated_on") or {}).get("data_fingerprint")
    same = found and found.get("weights") == weights and matches(data or "")
    return dict(found) if found and same else None


def released_leakage(found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Lists (words, entry) of the attacked targets that a run releases, the worst first."""
    attacked = [
        (TARGETS[name], found[name])
        for name in RELEASED
        if entry(found, name)["accuracy"] is not None
    ]
    return sorted(attacked, key=lambda pair: (-pair[1]["accuracy"], -pair[1]["upper"]))


def entry(found: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Returns the entry of a target, or `NOTHING` if `privacy.leakage` lacks it."""
    return (found or {}).get(name) or dict(NOTHING)


def reading_text(figures: Mapping[str, Any]) -> str:
    """An entry as `41.0 % (upper bound 43.7 %), balanced 40.8 %, by patch cnn raw, fast ...`."""
    by = f"by {figures['attacker'].replace('_', ' ')}, {reworded(figures['source'])}"
    if figures["source"] != figures["upper_source"]:
        by += f"; upper bound from {reworded(figures['upper_source'])}"
    balanced = figures["balanced_accuracy"]
    also = f", balanced {percent(balanced)}" if balanced is not None else ""
    return f"{percent(figures['accuracy'])} (upper bound {at_most(figures['upper'])}){also}, {by}"


def headline_text(found: Mapping[str, Any]) -> str:
    """The worst entry in short: `41.0 % from restored images (upper bound 43.7 %)`."""
    worst = found["worst"]
    target, upper = TARGETS[worst["target"]], TARGETS[worst["upper_target"]]
    also = f", from {upper}" if upper != target else ""
    bound = f"upper bound {at_most(worst['upper'])}{also}"
    return f"{percent(worst['accuracy'])} from {target} ({bound})"


def _measurements(
    own: Part | None, audit: Part | None, others: Sequence[Part]
) -> list[_Measurement]:
    found = []
    if own:
        found += [_Measurement(_source(own), marked(own), is_whole=True), *_kept(own)]
    audited = (audit or {}).get("attributes")
    # A fast audit repeats what results.json has.
    if audited and audited != own:
        source = f"{_source(audited)} of the audit"
        found += [_Measurement(source, marked(audited), is_whole=True), *_kept(audited)]
    for other in others:
        found += [_Measurement(str(other["source"]), other, is_whole=False), *_kept(other)]
    return found


def _kept(probe: Part) -> list[_Measurement]:
    """Splits `kept_best`, the best cached reading of each target, by its setting."""
    parts: dict[str, dict[str, Any]] = {}
    for name, part in (probe.get("kept_best") or {}).items():
        setting = part.get("setting")
        source = CHECK if setting == "check" else f"kept readings of {setting or 'some'} attackers"
        parts.setdefault(source, {})[name] = part
    return [_Measurement(source, part, is_whole=False) for source, part in parts.items()]


def _source(probe: Part) -> str:
    return f"{probe['setting']} attackers" if probe.get("setting") else "fresh attackers"


def _readings(name: str, measurements: Sequence[_Measurement], earlier: Part) -> list[Reading]:
    chosen_only = name in _REFERENCES
    found = [
        reading
        for measurement in measurements
        for reading in _of_part(
            measurement.probe.get(name) or {}, measurement.source, chosen_only=chosen_only
        )
    ]
    for kept in (earlier.get(name) or {}).get("readings") or ():
        found.append(
            Reading(
                kept["source"],
                kept["attacker"],
                kept["accuracy"],
                kept["balanced_accuracy"],
                kept["upper"],
                kept.get("trained_on"),
                kept.get("rows"),
                bool(kept.get("all_attackers")),
            )
        )
    return found


def _of_part(part: Part, source: str, *, chosen_only: bool) -> Iterator[Reading]:
    """Yields all readings of one target in one measurement."""
    about = part.get("trained_on"), part.get("rows")
    best = part.get("strongest")
    if best:
        yield _reading(source, best, *about)
    if chosen_only:
        return
    bound = part.get("bound")
    count = best.get("n") if best else None
    for name, figures in (part.get("attackers") or {}).items():
        # A bound over all attackers covers them; older files have none.
        alone = {"name": name, **({} if bound else {"n": count}), **figures}
        yield _reading(source, alone, *about)
    if bound:
        upper = _largest(bound.get("accuracy"), bound.get("balanced_accuracy"))
        attacker = str(bound.get("attacker") or "any attacker")
        trained_on = bound.get("trained_on")
        yield Reading(source, attacker, None, None, upper, trained_on, about[1], all_attackers=True)
    for point in [*(part.get("curve") or ()), *(part.get("updates_curve") or ())]:
        figures = {"name": "an attacker of the learning curve", "n": None, **point}
        yield _reading(source, figures, about[0], point.get("rows"))
    inner = dict(part.get("by_rows") or {})
    if part.get("own"):
        inner.setdefault("own", part["own"])
    for kind, figures in inner.items():
        if figures:
            whole = figures if "strongest" in figures else {"strongest": figures}
            yield from _of_part({"trained_on": kind, **whole}, source, chosen_only=False)


def _reading(source: str, figures: Part, trained_on: str | None, rows: int | None) -> Reading:
    accuracy, balanced = figures.get("accuracy"), figures.get("balanced_accuracy")
    ends = [(figures.get(name) or [None, None])[1] for name in ("ci95", "balanced_ci95")]
    read, count = _largest(accuracy, balanced), figures.get("n")
    if ends == [None, None] and read is not None and count:
        ends = [wilson_interval(read * count, count)[1]]
    upper = _largest(*ends)
    named = figures.get("trained_on") or trained_on
    learned = figures.get("rows") or rows
    name = str(figures.get("name") or "an attacker")
    return Reading(source, name, accuracy, balanced, upper, named, learned)


def _of_check(results: Mapping[str, Any], others: Sequence[Reading]) -> list[Reading]:
    """Reads the check that training made on the released weights (`training.final_check`).

    Older results only have its upper bound, as the privacy part of the stop rule; if that exceeds
    every other upper bound, it also stands for the accuracy.
    """
    on = results.get("evaluated_on") or {}
    config = results.get("config") or {}
    dataset = (config.get("data") or {}).get("dataset")
    if dataset and on.get("dataset") not in (None, dataset):
        return []
    if set(on.get("changed") or {}) - _SAME_VALIDATION:
        return []
    check = (results.get("training") or {}).get("final_check") or {}
    upper = check.get("fresh_probe_upper")
    read = check.get("fresh_probe_balanced_accuracy")
    if read is not None:
        accuracy = check.get("fresh_probe_accuracy")
        return [Reading(CHECK, "a quick attacker", accuracy, read, _largest(upper, read))]
    parts = (results.get("stop_rule") or {}).get("parts") or {}
    upper = (parts.get("privacy") or {}).get("value") if upper is None else upper
    known = _largest(*(reading.upper for reading in others))
    if upper is None or (known is not None and known >= upper):
        return []
    return [Reading(_ONLY_UPPER, "a quick attacker", None, upper, upper)]


def _target(
    name: str, readings: Sequence[Reading], measurements: Sequence[_Measurement], told: list[str]
) -> dict[str, Any]:
    measured = [reading for reading in readings if reading.read is not None]
    if not measured:
        reasons = [(m.probe.get(name) or {}).get("reason") for m in measurements]
        return {**NOTHING, "reason": next(filter(None, reasons), NOTHING["reason"])}
    worst = max(measured, key=lambda reading: reading.read or 0.0)
    highest = max(readings, key=lambda reading: _largest(reading.upper, reading.read) or 0.0)
    sources = [_merged(readings, source) for source in dict.fromkeys(r.source for r in readings)]
    told += _disagreement(name, sources, {m.source for m in measurements if not m.is_whole})
    kinds = {
        kind: _merged([r for r in measured if r.trained_on == kind])
        for kind in dict.fromkeys(r.trained_on for r in measured)
        if kind
    }
    return {
        "accuracy": worst.read,
        "balanced_accuracy": _largest(*(reading.balanced for reading in readings)),
        "upper": _largest(highest.upper, highest.read, worst.read),
        "attacker": worst.attacker,
        "source": worst.source,
        "upper_source": highest.source,
        "all_attackers": highest.all_attackers,
        "rows": worst.rows,
        "trained_on": worst.trained_on,
        "by_rows": {
            kind: {"accuracy": figures["read"], "upper": figures["upper"], "rows": figures["rows"]}
            for kind, figures in kinds.items()
        },
        "readings": [{k: v for k, v in s.items() if k != "read"} for s in sources],
    }


def _disagreement(name: str, sources: Sequence[Part], kept: set[str]) -> list[str]:
    """Lists the measurements of a target if they differ; cached ones only if they are higher."""
    whole = [source for source in sources if source["source"] not in kept - {CHECK}]
    ends = {kind: _largest(*(source[kind] for source in whole)) or 0.0 for kind in _DIFFERENT}
    compared = [
        source
        for source in sources
        if source in whole or any((source[kind] or 0.0) > ends[kind] for kind in _DIFFERENT)
    ]
    if all(_spread(compared, kind) <= least for kind, least in _DIFFERENT.items()):
        return []
    listed = [
        f"{source['source']} {percent(source['read'])} (upper bound {at_most(source['upper'])})"
        for source in compared
    ]
    return [f"{_NAMES[name]}: measurements differ ({', '.join(listed)}); the highest counts"]


def _made_from(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields a note for each target with a lower accuracy than a target computed from it.

    By the data processing inequality the former reveals at least as much, so its attackers are
    weak.
    """
    for name, behind in _MADE_FROM.items():
        upper = entry(parts, name)["upper"]
        read = {made: entry(parts, made)["accuracy"] or 0.0 for made in behind}
        most = max(behind, key=lambda made: read[made])
        if upper is not None and read[most] > upper:
            yield (
                f"{TARGETS[name]}: no bound, because {TARGETS[most]}, which are computed from "
                f"them, reveal the label with {percent(read[most])} accuracy: "
                "the attackers are weak here"
            )


def _spread(sources: Sequence[Part], kind: str) -> float:
    known = [source[kind] for source in sources if source[kind] is not None]
    return max(known) - min(known) if known else 0.0


def _merged(readings: Sequence[Reading], source: str | None = None) -> dict[str, Any]:
    """Takes the maxima over the readings of one source, or of all."""
    some = [reading for reading in readings if source in (None, reading.source)]
    worst = max(some, key=lambda reading: (reading.read or -1.0, reading.upper or -1.0))
    return {
        "source": worst.source,
        "attacker": worst.attacker,
        "accuracy": _largest(*(reading.accuracy for reading in some)),
        "balanced_accuracy": _largest(*(reading.balanced for reading in some)),
        "upper": _largest(*(reading.upper for reading in some), worst.read),
        "trained_on": worst.trained_on,
        "rows": worst.rows,
        "all_attackers": max(some, key=lambda reading: reading.upper or -1.0).all_attackers,
        "read": worst.read,
    }


def _rises(measurements: Sequence[_Measurement], earlier: Part) -> list[dict[str, Any]]:
    """Lists the learning curves that have not levelled off in rows or updates.

    Such a curve is a finding about the weights, as a reading is: only a curve that goes further and
    is flat replaces it.
    """
    curves = [
        curve
        for measurement in measurements
        if measurement.is_whole
        for name in RELEASED
        for curve in _curves(name, measurement.probe)
    ]
    known = [*curves, *(earlier.get("rises") or ())]
    found: list[dict[str, Any]] = []
    for curve in known:
        beyond = any(
            other["trend"] == FLAT and other["size"] > curve["size"] and _alike(other, curve)
            for other in known
        )
        told = any(_alike(other, curve) and other["words"] == curve["words"] for other in found)
        if curve["trend"] in OPEN and not beyond and not told:
            found.append(dict(curve))
    return found


def _alike(curve: Part, other: Part) -> bool:
    return (curve["target"], curve["unit"]) == (other["target"], other["unit"])


def _curves(name: str, probe: Part) -> Iterator[dict[str, Any]]:
    """Yields the curves of a target: `target`, `unit`, `size` of its end, `trend`, `words`."""
    part = probe.get(name) or {}
    if part.get("trend") in (FLAT, *OPEN):
        trend, size = part["trend"], part.get("rows") or 0
        words = part.get("trend_words") or "accuracy still rises with more training rows"
        yield {"target": name, "unit": "rows", "size": size, "trend": trend, "words": words}
    longer = [part.get("patience"), probe.get("patience") if name == "features" else None]
    for patience in longer:
        if patience and patience.get("checked"):
            points = part.get("updates_curve") or ()
            size = max((point.get("updates") or 0 for point in points), default=0)
            trend = FLAT if patience.get("flat") else RISING
            words = patience.get("reason") or "the learning curve over updates is not flat"
            yield {"target": name, "unit": "updates", "size": size, "trend": trend, "words": words}


def _trend(
    name: str,
    readings: Sequence[Reading],
    measurements: Sequence[_Measurement],
    rises: Sequence[Part],
    earlier: Part,
) -> dict[str, Any]:
    """Takes a curve that is not flat, else that of the measurement with the most training rows.

    Empty if the target was not attacked.
    """
    if all(reading.read is None for reading in readings):
        return {}
    if rising := [r for r in rises if (r["target"], r["unit"]) == (name, "rows")]:
        return {"trend": rising[0]["trend"], "trend_words": rising[0]["words"]}
    parts = [measurement.probe.get(name) or {} for measurement in measurements]
    drawn = [part for part in parts if part.get("trend") not in (None, NOT_MEASURED)]
    before = earlier.get(name) or {}
    if not drawn and before.get("trend") == FLAT:
        drawn = [before]
    if not drawn:
        return {"trend": NOT_MEASURED, "trend_words": None}
    most = max(drawn, key=lambda part: part.get("rows") or 0)
    return {"trend": most["trend"], "trend_words": most.get("trend_words")}


def _worst(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    attacked = [name for name in RELEASED if entry(parts, name)["accuracy"] is not None]
    if not attacked:
        return None
    name = max(attacked, key=lambda target: (parts[target]["accuracy"], parts[target]["upper"]))
    kept = ("accuracy", "balanced_accuracy", "attacker", "source")
    # The two need not be of the same target: the bound is the largest of all.
    upper = max(attacked, key=lambda target: parts[target]["upper"])
    return {
        "target": name,
        **{key: parts[name][key] for key in kept},
        "upper": parts[upper]["upper"],
        "upper_target": upper,
    }


def _refused(
    results: Mapping[str, Any],
    measurements: Sequence[_Measurement],
    rises: Sequence[Part],
    strength: Mapping[str, Any],
) -> list[str]:
    """Lists the reasons why no bound is claimed; empty if one is."""
    probes = [measurement.probe for measurement in measurements if measurement.is_whole]
    if not probes and {m.source for m in measurements if m.probe.get("features")} - {CHECK}:
        return [
            "only readings of an interrupted attack exist, or of one whose result was deleted; run "
            "evaluate --probe=fast"
        ]
    if not probes:
        return ["only the quick check in training was run; run evaluate --probe=fast"]
    reasons = list(strength["underpowered_reasons"])
    if strength["underpowered"] and not reasons:
        reasons = ["the attackers are underpowered (no reason recorded)"]
    impatient = list(_impatience(results, probes, named=strength["underpowered"]))
    for rise in rises:
        # The reasons of underpowered attackers name rising curves already.
        if not any(rise["words"] in reason for reason in (*reasons, *impatient)):
            reasons.append(f"{TARGETS[rise['target']]}: {rise['words']}")
    return [*reasons, *impatient]


def _impatience(
    results: Mapping[str, Any], probes: Sequence[Part], *, named: bool
) -> Iterator[str]:
    """Yields a reason if adversarial training was not followed by attackers with more effort.

    Args:
        results: content of results.json.
        probes: the measurements.
        named: whether the reasons of underpowered attackers already include a rising curve over
            updates.
    """
    config = Config.from_dict(results.get("config") or {})
    train = dataclasses.replace(config.train, model=results.get("model") or config.train.model)
    if not train.is_adversarial or not config.loss.plays:
        return
    found = [
        part
        for probe in probes
        for part in (probe.get("patience"), (probe.get("features") or {}).get("patience"))
        if part
    ]
    checked = [part for part in found if part.get("checked")]
    if any(part.get("flat") for part in checked):
        return
    if checked and named:
        return
    if checked:
        reason = checked[-1].get("reason") or "the learning curve over updates is not flat"
        yield f"after adversarial training: {reason}"
        return
    settings = ", ".join(dict.fromkeys(str(probe.get("setting") or "given") for probe in probes))
    yield (
        "after adversarial training, an attacker at chance may do far better with more rows and "
        f"updates; the {settings} setting does not check this, run evaluate --probe=thorough"
    )


def _strength(probes: Sequence[Part], earlier: Part) -> dict[str, Any]:
    """Merges the checks of the attackers' strength.

    Weak attackers beside strong ones do not void the claim of the strong; a target attacked only by
    weak ones has none.
    """
    if not probes:
        return {
            "setting": earlier.get("setting"),
            "underpowered": bool(earlier.get("underpowered")),
            "underpowered_reasons": list(earlier.get("underpowered_reasons") or ()),
            "not_checked": list(earlier.get("not_checked") or ()),
        }
    strong = {name for probe in probes if not probe.get("underpowered") for name in _read(probe)}
    weak = bool({name for probe in probes for name in _read(probe)} - strong)
    weak = weak or all(probe.get("underpowered") for probe in probes)
    reasons = [r for probe in probes for r in probe.get("underpowered_reasons") or ()]
    missing = [set(probe.get("not_checked") or ()) for probe in probes]
    settings = dict.fromkeys(str(probe.get("setting") or "not said") for probe in probes)
    return {
        "setting": " and ".join(settings),
        "underpowered": weak,
        "underpowered_reasons": list(dict.fromkeys(reasons)) if weak else [],
        "not_checked": [
            name
            for name in probes[0].get("not_checked") or ()
            if all(name in names for names in missing)
        ],
    }


def _read(probe: Part) -> set[str]:
    """Names the released targets that a measurement attacked."""
    found = {name for name in RELEASED if (probe.get(name) or {}).get("strongest")}
    own = (probe.get("features") or {}).get("own") or {}
    return found | ({"own"} if own.get("strongest") else set())


def _before(probes: Sequence[Part], earlier: Part) -> float | None:
    found = [(probe.get("before_game") or {}).get("balanced_accuracy") for probe in probes]
    return _largest(*found, earlier.get("before_game"))


def _level(probes: Sequence[Part]) -> float:
    """Returns the lowest confidence level among the bounds used."""
    bounds = [(probe.get(name) or {}).get("bound") or {} for probe in probes for name in RELEASED]
    return min((float(b["level"]) for b in bounds if b.get("level")), default=_LEVEL)


def _largest(*values: float | None) -> float | None:
    known = [float(value) for value in values if value is not None]
    return max(known) if known else None
