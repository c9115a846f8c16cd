"""Puts readings together, as `privacy.probe` of results.json has them.

Checks that attackers could have found anything: without that a low reading says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.probes.attack import Reading, strongest
from tf_mtl_privacy.evaluation.probes.bounds import OPEN, Attack, bound, upper_end
from tf_mtl_privacy.evaluation.probes.curves import no_curve, no_patience
from tf_mtl_privacy.evaluation.probes.data import ProbeData

PIXELS_BAR, REMOVAL_OFF_BAR, PLANTED_BAR = 0.85, 0.75, 0.75
PLANTED_SHARE = 0.1
# Attackers that learned from fewer rows than this, or fewer of each class, show too little.
LEAST_ROWS, LEAST_ROWS_PER_CLASS = 2_000, 20
PATIENCE = "patience"
_NAMES = {
    "pixels": ("pixels", PIXELS_BAR),
    "planted": ("a planted leak", PLANTED_BAR),
    "removal_off": ("the features of the run with removal off", REMOVAL_OFF_BAR),
}


def planted(data: ProbeData, seed: int) -> ProbeData:
    """Returns the same rows with a leak of our own, to be found by attackers that have power.

    Labels are dealt out anew at random, so that what was hidden in the rows does not help. Each
    class has a pattern of random signs; a tenth of the pattern, in units of each number's own
    deviation over training rows, is added to its rows.

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


def least_rows(classes: int | None) -> int:
    """Returns the number of rows below which attackers count as underpowered.

    2,000, and 20 for each class. Below that a flat learning curve has points at 500 and 1,000 rows,
    where networks do not leave the plateau at chance even on labels that they read with more.

    Args:
        classes: K; None where it is not known.
    """
    return max(LEAST_ROWS, LEAST_ROWS_PER_CLASS * (classes or 0))


def power(
    found: Mapping[str, float | None],
    targets: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    classes: int | None = None,
    game: bool = False,
) -> dict[str, Any]:
    """Returns whether the attackers are too weak for any claim, and why.

    Args:
        found: balanced accuracy of the strongest on 'pixels', 'planted' and 'removal_off'; None
            where that was not measured.
        targets: what belongs to the run: target -> its figures, see `summary.joined_summary`, with
            `trend`, `trend_words` and `patience` (`curves.py`) where there are any.
        classes: K of the private label; None where it is not known.
        game: whether the encoder was trained against an adversary.

    Returns:
        `underpowered`; `underpowered_reasons`: a text for each bar that was missed, for attackers
        of features that learned from too few rows (`least_rows`), and for each learning curve over
        rows or updates that still rises or is not clear; `not_checked`: the bars without a figure,
        and 'patience' where attackers read features at chance behind a game and were not trained
        for longer.
    """
    reasons, missing = [], []
    for name, (words, bar) in _NAMES.items():
        value = found.get(name)
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
        if game and _is_at_chance(features, classes) and not _checked(features):
            missing.append(PATIENCE)
    reasons += [text for name, target in measured.items() for text in _rising(name, target)]
    return {
        "underpowered": bool(reasons),
        "underpowered_reasons": reasons,
        "not_checked": missing,
    }


def _too_few(features: Mapping[str, Any], classes: int | None) -> list[str]:
    by_rows = features.get("by_rows") or {"": features}
    most = max(int(part.get("rows", 0)) for part in by_rows.values())
    least = least_rows(classes)
    if most >= least:
        return []
    return [f"attackers learned from {most:,} rows, where {least:,} are asked for"]


def _rising(name: str, target: Mapping[str, Any]) -> list[str]:
    words, found = name.replace("_", " "), []
    if target.get("trend") in OPEN:
        found.append(f"the learning curve on {words} is {target['trend_words']}")
    longer = target.get("patience") or {}
    if longer.get("flat") is False:
        found.append(f"the learning curve on {words} is {longer['reason']}")
    return found


def _is_at_chance(features: Mapping[str, Any], classes: int | None) -> bool:
    """Returns True if an interval of the strongest attacker includes chance or lies below it."""
    if classes is None:
        return True
    best = features["strongest"]
    return bool(best.get("balanced_ci95", best["ci95"])[0] <= 1 / classes)


def _checked(features: Mapping[str, Any]) -> bool:
    return bool((features.get(PATIENCE) or {}).get("checked"))


UNSEEN, OWN = "unseen", "own"
KINDS = (UNSEEN, OWN)
# Targets that belong to a run; the others are references, whose readings are not leakage.
OF_RUN = (
    "features",
    "restored",
    "logits",
    "regions",
    "features_and_regions",
    "masked_pictures",
    "one_draw",
    "noiseless",
)


@dataclasses.dataclass(frozen=True)
class KindReadings:
    """Readings of attackers who learned from one kind of rows.

    Attributes:
        readings: one for each attacker, at least one.
        rows: how many rows they learned from.
    """

    readings: Sequence[Reading]
    rows: int


def target_summary(readings: Sequence[Reading], trained_on: str, rows: int) -> dict[str, Any]:
    """Returns the figures of a target that was attacked from one kind of rows.

    Args:
        readings: one for each attacker; at least one.
        trained_on: `UNSEEN` (rows that the encoder was not trained on) or `OWN` (that it was).
        rows: how many rows attackers learned from.

    Returns:
        As `joined_summary`; the other kind of rows is not in `by_rows`.
    """
    return joined_summary({trained_on: KindReadings(readings, rows)}, {})


def joined_summary(found: Mapping[str, KindReadings], missing: Mapping[str, str]) -> dict[str, Any]:
    """Returns one target's figures from all kinds of rows.

    Args:
        found: kind of rows (`UNSEEN`, `OWN`) -> readings; at least one kind.
        missing: kind of rows -> the reason why nobody learned from them.

    Returns:
        Of the kind that reads more, by the higher upper end of the strongest attacker's intervals:
        `strongest` (`name`, `accuracy`, `balanced_accuracy`, `ci95`, `balanced_ci95`, `n`, on test
        rows; chosen on validation rows), `attackers` (name -> `accuracy`, `balanced_accuracy`),
        `trained_on`, `rows`. `by_rows`: the same of each kind, or `not_measured`. `bound`: see
        `bounds.bound`, over all attackers of all kinds.
    """
    parts = {kind: _of_kind(part.readings, kind, part.rows) for kind, part in found.items()}
    top = max(parts.values(), key=lambda part: upper_end(part["strongest"]))
    attacks = [Attack(r.name, kind, r.test) for kind, part in found.items() for r in part.readings]
    return {
        **top,
        "by_rows": {**{kind: not_measured(why) for kind, why in missing.items()}, **parts},
        "bound": bound(attacks),
    }


def _of_kind(readings: Sequence[Reading], trained_on: str, rows: int) -> dict[str, Any]:
    best = strongest(readings)
    return {
        "strongest": {"name": best.name, **best.test},
        "attackers": {
            reading.name: {name: reading.test[name] for name in ("accuracy", "balanced_accuracy")}
            for reading in readings
        },
        "trained_on": trained_on,
        "rows": rows,
    }


def not_measured(reason: str) -> dict[str, Any]:
    """Returns the figures of a target that nobody attacked."""
    return {"strongest": None, "reason": reason}


def probe_summary(
    setting: str,
    targets: Mapping[str, Mapping[str, Any]],
    removal_off: Mapping[str, Any] | None,
    seconds: float,
    before_game: Mapping[str, float] | None = None,
    *,
    classes: int | None = None,
    game: bool = False,
) -> dict[str, Any]:
    """Returns the whole of `privacy.probe`.

    Args:
        setting: 'fast' or 'thorough'.
        targets: target -> `joined_summary` or `not_measured`.
        removal_off: the strongest on features of the run with removal off, or None.
        seconds: time spent, of the wall clock.
        before_game: figures of a check before the joint phase (`fresh_probe_balanced_accuracy`).
        classes: K of the private label; None where it is not known.
        game: whether the encoder was trained against an adversary.
    """
    checked = {name: _balanced(targets.get(name)) for name in ("pixels", "planted")}
    off = None if removal_off is None else removal_off["balanced_accuracy"]
    whole = {
        name: {**(_no_curves(name) if figures["strongest"] else {}), **figures}
        for name, figures in targets.items()
    }
    if "own" in whole.get("features", {}):
        # A part of `by_rows`, at the place where it was before there was `by_rows`.
        own = whole["features"]["own"]
        whole["features"]["own"] = {k: v for k, v in own.items() if k not in ("by_rows", "bound")}
    return {
        "setting": setting,
        "seconds": round(seconds, 1),
        **whole,
        "before_game": _before(before_game),
        "removal_off": {"strongest": None if removal_off is None else dict(removal_off)},
        **power(
            {**checked, "removal_off": off},
            {name: whole[name] for name in OF_RUN if name in whole},
            classes=classes,
            game=game,
        ),
    }


def _no_curves(name: str) -> dict[str, Any]:
    """The fields about curves of a target without any."""
    if name not in OF_RUN:
        return {}
    reason = "this setting does not train its strongest attacker on fewer rows"
    longer = no_patience("this setting does not train its attackers for longer")
    return {**no_curve(reason), **longer}


def _before(figures: Mapping[str, float] | None) -> dict[str, Any]:
    found = (figures or {}).get("fresh_probe_balanced_accuracy")
    if found is None:
        return {"balanced_accuracy": None, "reason": "no check ran before the joint phase"}
    return {"balanced_accuracy": found}


def _balanced(target: Mapping[str, Any] | None) -> float | None:
    best = (target or {}).get("strongest")
    return None if best is None else float(best["balanced_accuracy"])
