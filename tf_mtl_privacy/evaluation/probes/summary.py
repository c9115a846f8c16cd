"""Builds `privacy.probe` of results.json from the readings of fresh attackers.

`probe_summary` puts the targets together; `joined_summary` makes one target; `learning_curve` and
`patience` show if more rows or more updates would raise a figure; `power` checks that the attackers
could have found something, without which a low figure means nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, cast

import numpy as np

from tf_mtl_privacy.evaluation.probes.attack import Reading, strongest
from tf_mtl_privacy.evaluation.probes.bounds import (
    FLAT,
    NOT_MEASURED,
    OF_RUN,
    OPEN,
    RISING,
    UNCLEAR,
    Attack,
    bound,
    paired_gain,
    unpack,
    upper_end,
)
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.schema import (
    BeforeGame,
    ByRows,
    CurvePoint,
    NamedReading,
    Patience,
    ProbeResults,
    Strength,
    Target,
)
from tf_mtl_privacy.types import Array

UNSEEN, OWN = "unseen", "own"
KINDS = (UNSEEN, OWN)
PATIENCE = "patience"
PIXELS_BAR, REMOVAL_OFF_BAR, PLANTED_BAR = 0.85, 0.75, 0.75
PLANTED_SHARE = 0.1
# Attackers trained on fewer rows, or on fewer of each class, are underpowered.
MIN_ROWS, MIN_ROWS_PER_CLASS = 2_000, 20
# Learning curves have points at a quarter and at half of the rows.
SHARES = (4, 2)
# A curve is flat only where the last doubling surely gains no more than this.
MAX_GAIN = 0.05
_BARS = {
    "pixels": ("pixels", PIXELS_BAR),
    "planted": ("a planted leak", PLANTED_BAR),
    "removal_off": ("the features of the run with removal off", REMOVAL_OFF_BAR),
}


class Curve(TypedDict):
    """A learning curve, as a part of a target."""

    curve: list[CurvePoint]
    trend: str
    trend_words: str


class UpdatesCurve(TypedDict):
    """A learning curve over updates, as a part of a target."""

    updates_curve: list[CurvePoint]
    patience: Patience


@dataclasses.dataclass(frozen=True)
class KindReadings:
    """Readings of the attackers trained on one kind of rows.

    Attributes:
        readings: one for each attacker, at least one.
        rows: number of training rows.
    """

    readings: Sequence[Reading]
    rows: int


def probe_summary(
    setting: str,
    targets: Mapping[str, Target],
    baseline: NamedReading | None,
    seconds: float,
    before_game: Mapping[str, float] | None = None,
    *,
    classes: int | None = None,
    game: bool = False,
) -> ProbeResults:
    """Returns `privacy.probe`, without the weights and the cached readings.

    Args:
        setting: name of the budget, "fast" or "thorough".
        targets: target -> `joined_summary` or `not_measured`.
        baseline: the strongest attacker on features of the run without removal, or None.
        seconds: elapsed time.
        before_game: figures of the check before the joint phase.
        classes: K of the private label; None where unknown.
        game: True if the encoder was trained against an adversary.
    """
    whole = {
        name: cast(Target, {**(_no_curves(name) if figures["strongest"] else {}), **figures})
        for name, figures in targets.items()
    }
    if "own" in whole.get("features", {}):
        # Readers of files without `by_rows` look for these figures here.
        own = whole["features"]["own"]
        whole["features"]["own"] = cast(
            ByRows, {k: v for k, v in own.items() if k not in ("by_rows", "bound")}
        )
    checked = {name: _balanced(targets.get(name)) for name in ("pixels", "planted")}
    checked["removal_off"] = None if baseline is None else baseline["balanced_accuracy"]
    return cast(
        ProbeResults,
        {
            "setting": setting,
            "seconds": round(seconds, 1),
            **whole,
            "before_game": _before(before_game),
            "removal_off": {"strongest": baseline},
            **power(
                checked,
                {name: whole[name] for name in OF_RUN if name in whole},
                classes=classes,
                game=game,
            ),
        },
    )


def target_summary(readings: Sequence[Reading], trained_on: str, rows: int) -> Target:
    """Returns the figures of a target that was attacked from one kind of rows.

    Args:
        readings: one for each attacker; at least one.
        trained_on: `UNSEEN` (the encoder was not trained on these rows) or `OWN` (it was).
        rows: number of training rows.

    Returns:
        As `joined_summary`; the other kind of rows is not in `by_rows`.
    """
    return joined_summary({trained_on: KindReadings(readings, rows)}, {})


def joined_summary(readings: Mapping[str, KindReadings], missing: Mapping[str, str]) -> Target:
    """Returns the figures of one target from all kinds of rows.

    Args:
        readings: kind of rows (`UNSEEN`, `OWN`) -> readings; at least one kind.
        missing: kind of rows -> the reason why no attacker was trained on them.

    Returns:
        The figures of the kind whose strongest attacker has the higher upper bound; `by_rows`, the
        figures of each kind; `bound`, see `bounds.bound`, over all attackers of all kinds.
    """
    parts = {kind: _of_kind(part.readings, kind, part.rows) for kind, part in readings.items()}
    top = max(parts.values(), key=_upper_end)
    attacks = [
        Attack(r.name, kind, r.test) for kind, part in readings.items() for r in part.readings
    ]
    by_rows = {**{kind: not_measured(why) for kind, why in missing.items()}, **parts}
    return cast(Target, {**top, "by_rows": by_rows, "bound": bound(attacks)})


def not_measured(reason: str) -> Target:
    """Returns the figures of a target that was not attacked."""
    return {"strongest": None, "reason": reason}


def _of_kind(readings: Sequence[Reading], trained_on: str, rows: int) -> ByRows:
    return {
        "strongest": strongest(readings).named,
        "attackers": {
            reading.name: {
                "accuracy": reading.test["accuracy"],
                "balanced_accuracy": reading.test["balanced_accuracy"],
            }
            for reading in readings
        },
        "trained_on": trained_on,
        "rows": rows,
    }


def _upper_end(part: ByRows) -> float:
    assert part["strongest"] is not None
    return upper_end(part["strongest"])


def _no_curves(name: str) -> Target:
    """Returns the curve fields of a target without curves; references have no such fields."""
    if name not in OF_RUN:
        return cast(Target, {})
    reason = "this setting does not train its strongest attacker on fewer rows"
    longer = no_patience("this setting does not train its attackers for longer")
    return cast(Target, {**no_curve(reason), **longer})


def _before(figures: Mapping[str, float] | None) -> BeforeGame:
    read = (figures or {}).get("fresh_probe_balanced_accuracy")
    if read is None:
        return {"balanced_accuracy": None, "reason": "no check ran before the joint phase"}
    return {"balanced_accuracy": read}


def _balanced(target: Target | None) -> float | None:
    best = target["strongest"] if target else None
    return None if best is None else float(best["balanced_accuracy"])


def learning_curve(
    readings: Sequence[Reading],
    sizes: Sequence[int],
    labels: Array,
    unit: Literal["rows", "updates"] = "rows",
) -> Curve:
    """Returns the learning curve of one attacker at three or more sizes.

    A reading bounds other attackers only where more rows and more updates no longer help. A curve
    shows this up to its last point; it cannot show a rise that begins beyond it.

    The curve is *still rising* where the 95 % interval of the last gain in balanced accuracy, on
    the same test rows (`paired_gain`), lies above 0; also where that of the whole gain does and the
    last doubling gained at least a quarter of the gain before it. A curve that is not rising is
    *flat* only where the interval of the last gain ends at or below `MAX_GAIN`. Otherwise it is
    *not clear*, and no claim follows: on 100 test rows a gain of ten points is missed in one of six
    cases.

    Args:
        readings: by size, smallest first; each with `right`.
        sizes: number of rows or updates of each.
        labels: `[N]` int classes of the test rows.
        unit: unit of the sizes.
    """
    rights = [unpack(reading.right, len(labels)) for reading in readings]
    curve: list[CurvePoint] = []
    for reading, size in zip(readings, sizes, strict=True):
        point: CurvePoint = {
            "balanced_accuracy": reading.test["balanced_accuracy"],
            "balanced_ci95": reading.test["balanced_ci95"],
        }
        point[unit] = int(size)
        if len(reading.starts) > 1:
            point["starts"] = list(reading.starts)
        curve.append(point)
    gain, ends = paired_gain(rights[-2], rights[-1], labels)
    whole, whole_ends = paired_gain(rights[0], rights[-1], labels)
    rising = ends[0] > 0 or (whole_ends[0] > 0 and gain >= (whole - gain) / 4)
    trend = RISING if rising else FLAT if ends[1] <= MAX_GAIN else UNCLEAR
    low, high = (100 * end for end in ends)
    words = (
        f"{trend}: from {sizes[-2]:,} to {sizes[-1]:,} {unit} the balanced "
        f"accuracy changes by {100 * gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    if rising:
        words += f"; attackers with more {unit} would read more"
    if trend == UNCLEAR:
        words += f"; {len(labels):,} test rows are too few to tell"
    return {"curve": curve, "trend": trend, "trend_words": words}


def no_curve(reason: str) -> Curve:
    """Returns the fields of a target without a learning curve."""
    return {"curve": [], "trend": NOT_MEASURED, "trend_words": f"{NOT_MEASURED}: {reason}"}


def patience(curve: Curve, starts: int) -> UpdatesCurve:
    """Returns the fields of a target whose attackers were trained for longer.

    Args:
        curve: the learning curve over updates.
        starts: number of random starts of each point.
    """
    flat = curve["trend"] == FLAT
    reason = f"{curve['trend_words']}, best of {starts} random starts by validation rows"
    return {
        "updates_curve": curve["curve"],
        "patience": {"checked": True, "flat": flat, "reason": reason},
    }


def no_patience(reason: str) -> UpdatesCurve:
    """Returns the fields of a target whose attackers were not trained for longer."""
    return {"updates_curve": [], "patience": {"checked": False, "flat": None, "reason": reason}}


def planted(data: ProbeData, seed: int) -> ProbeData:
    """Returns the same rows with a planted leak, which attackers with power find.

    Labels are drawn anew, so that the rows' true label does not help. Each class has a pattern of
    random signs; a tenth of it, in units of each column's standard deviation over training rows, is
    added to the rows of the class.

    Args:
        data: the target's rows.
        seed: of labels and patterns.
    """
    rng = np.random.default_rng(seed)
    size = PLANTED_SHARE * data.train.std(axis=0)
    signs = rng.choice(np.array([-1, 1], np.float32), (data.classes, *size.shape))
    changes = {}
    for part in ("train", "validation", "test"):
        rows = getattr(data, part)
        labels = rng.permutation(np.arange(len(rows), dtype=np.int32) % data.classes)
        changes[part] = (rows + size * signs[labels]).astype(np.float32)
        changes[f"{part}_labels"] = labels
    return dataclasses.replace(data, **changes)


def min_rows(classes: int | None) -> int:
    """Returns the number of training rows below which attackers count as underpowered.

    2,000, and 20 for each class: with fewer, a flat learning curve has points at 500 and 1,000
    rows, where networks stay at chance even on labels that they read from more rows.

    Args:
        classes: K; None where unknown.
    """
    return max(MIN_ROWS, MIN_ROWS_PER_CLASS * (classes or 0))


def power(
    read: Mapping[str, float | None],
    targets: Mapping[str, Target] | None = None,
    *,
    classes: int | None = None,
    game: bool = False,
) -> Strength:
    """Checks if the attackers are too weak for any claim, and why.

    Args:
        read: balanced accuracy of the strongest on 'pixels', 'planted' and 'removal_off'; None
            where not measured.
        targets: the run's own targets, name -> `joined_summary` with the fields of its curves.
        classes: K of the private label; None where unknown.
        game: True if the encoder was trained against an adversary.

    Returns:
        `underpowered_reasons`: a text for each missed threshold, for attackers of features trained
        on too few rows (`min_rows`), and for each learning curve that is rising or not clear.
        `not_checked`: the thresholds without a figure, and 'patience' if attackers of features are
        at chance after a game and were not trained for longer.
    """
    reasons, missing = [], []
    for name, (words, bar) in _BARS.items():
        value = read.get(name)
        if value is None:
            missing.append(name)
        elif value < bar:
            reasons.append(
                f"the strongest attacker reads {100 * value:.1f} % from {words}, where "
                f"{100 * bar:g} % is asked for"
            )
    measured = {name: target for name, target in (targets or {}).items() if target["strongest"]}
    features = measured.get("features")
    if features is not None:
        reasons += _too_few(features, classes)
        if game and _is_at_chance(features, classes) and not _is_checked(features):
            missing.append(PATIENCE)
    reasons += [text for name, target in measured.items() for text in _rising(name, target)]
    return {
        "underpowered": bool(reasons),
        "underpowered_reasons": reasons,
        "not_checked": missing,
    }


def _too_few(features: Target, classes: int | None) -> list[str]:
    by_rows: Mapping[str, ByRows] = features.get("by_rows") or {"": features}
    rows = max(int(part.get("rows", 0)) for part in by_rows.values())
    if rows >= min_rows(classes):
        return []
    return [f"attackers learned from {rows:,} rows, where {min_rows(classes):,} are asked for"]


def _rising(name: str, target: Target) -> list[str]:
    words, reasons = name.replace("_", " "), []
    if target.get("trend") in OPEN:
        reasons.append(f"the learning curve on {words} is {target['trend_words']}")
    longer = target.get("patience")
    if longer and longer.get("flat") is False:
        reasons.append(f"the learning curve on {words} is {longer['reason']}")
    return reasons


def _is_at_chance(features: Target, classes: int | None) -> bool:
    """Returns True if an interval of the strongest attacker includes chance or lies below it."""
    best = features["strongest"]
    if classes is None or best is None:
        return True
    return bool(best.get("balanced_ci95", best["ci95"])[0] <= 1 / classes)


def _is_checked(features: Target) -> bool:
    longer = features.get("patience")
    return bool(longer and longer.get("checked"))
