"""Checks that attackers could have found anything: without that a low reading says nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.trends import OPEN

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
