"""What differential privacy allows a membership attack, and whether one did better.

Are members and non-members drawn alike? A reader who knows no model must not tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.membership.attacks import (
    Split,
    learned_scores,
    operating_points,
    sides,
    strongest,
)
from tf_mtl_privacy.evaluation.membership.roc import FEWEST_AT_RAREST, RAREST, RATES, auc
from tf_mtl_privacy.evaluation.membership.verdict import ALIKE, DIFFER, NOT_SHOWN

Array = np.ndarray[Any, Any]
_READERS = ("logistic", "trees")
# An AUC that is no more than this is too little to matter beside what attacks are said to find.
ALIKE_BELOW = 0.55


def same_distribution(rows: Array, split: Split, seed: int) -> dict[str, Any]:
    """What the better of two classifiers tells that know no model.

    What they tell apart is a difference between the two samples (another camera, other labels, more
    of them missing), which every attack would take for membership. The one with the larger AUC on
    one half is reported on the other.

    Args:
        rows: `[N, p]` float, see `known_without_model`.
        split: see `Split`.
        seed: of the classifiers.

    Returns:
        `auc`, `ci95`; `state`: "alike" where the interval ends below `alike_below` (an AUC below
        0.5 counts as 0.5 for that), also where it lies above 0.5: that little is too little to
        matter, and with many rows chance alone gets there; "differ" where it lies above 0.5 and
        ends higher; else "not_shown" (too few rows to tell); `ok`: whether it is not "differ".
    """
    found = [learned_scores(name, rows, split, seed) for name in _READERS]
    scores = max(found, key=lambda values: auc(*sides(values, split, split.choosing))[0])
    value, ci95 = auc(*sides(scores, split, ~split.choosing))
    # An AUC below a half is chance, and must not make up for an interval that is wide.
    most = max(value, 0.5) + ci95[1] - value
    state = ALIKE if most < ALIKE_BELOW else DIFFER if ci95[0] > 0.5 else NOT_SHOWN
    return {
        "auc": value,
        "ci95": ci95,
        "ok": state != DIFFER,
        "state": state,
        "alike_below": ALIKE_BELOW,
    }


def known_without_model(pictures: Array, labels: Mapping[str, Array], private: Array) -> Array:
    """`[N, p]` float32: all that attackers are given of a row beside what the model says of it.

    Args:
        pictures: `[N, q]` float, see `Outputs.pictures`.
        labels: task -> `[N]` int, -1 where unknown, which counts as a value of its own.
        private: `[N]` int, private labels; attackers of the discriminator only score who has one.
    """
    columns = [pictures, (private < 0)[:, None]]
    columns += [values[:, None] == np.unique(values) for values in labels.values()]
    return np.concatenate([part.astype(np.float32) for part in columns], axis=1)


# What each target is made from: the claim on it is the weakest of these parts'.
_PARTS = {
    "business": ("encoder", "business"),
    # Their attackers ask the released classifier about them.
    "features": ("encoder", "business"),
    "release": ("encoder", "business", "restorer", "discriminator"),
}
# Attacks on these targets are attacks on it.
_WITHIN = {
    "business": ("business",),
    "features": ("features",),
    "release": ("business", "features", "release"),
}


def most_tpr(epsilon: float, delta: float, rate: float) -> float:
    """The highest TPR at an FPR that (epsilon, delta)-differential privacy allows, in [0, 1].

    Kairouz, Oh and Viswanath (2015), "The Composition Theorem for Differential Privacy", theorem
    2.1: `min(e^eps * fpr + delta, 1 - e^-eps * (1 - delta - fpr))`.
    """
    tangent = math.exp(min(epsilon, 700.0)) * rate + delta
    return min(1.0, tangent, 1 - math.exp(-epsilon) * max(0.0, 1 - delta - rate))


def contradictions(
    scores: Mapping[tuple[str, str], Array], split: Split, dp: Mapping[str, Any] | None
) -> list[str]:
    """One sentence for each target whose claimed epsilon an attack has exceeded.

    For each target with a claim the strongest attack on it or on a part of it is tested at
    thresholds of the choosing half, on the reporting half (`operating_points`); all these tests
    together err in at most 5 % of cases. The canaries of `dp_audit` err in 5 % of their own.

    Args:
        scores: (target, attack) -> `[N]` scores.
        split: see `Split`.
        dp: the `dp` part of results.json.
    """
    claims = {target: claimed(target, dp) for target, _ in scores}
    held = {target: epsilon for target, epsilon in claims.items() if epsilon is not None}
    found = []
    for target, epsilon in held.items():
        assert dp is not None
        on_it = {name: values for name, values in scores.items() if name[0] in _WITHIN[target]}
        name = strongest(on_it, split)
        rates = _rates(on_it[name], split)
        for least, most in operating_points(on_it[name], split, rates, tests=len(held)):
            cap = most_tpr(epsilon, dp["delta"], most)
            if least > cap:
                found.append(
                    f"{target}: the attack {name[1]} has a TPR of at least {least:.1%} at an FPR "
                    f"of at most {most:.1%}; the released epsilon of {epsilon:.4g} allows {cap:.1%}"
                )
                break
    return found


def claimed(target: str, dp: Mapping[str, Any] | None) -> float | None:
    """The epsilon that is claimed for a target; None where a part of it has none.

    Args:
        target: 'business', 'features' or 'release'.
        dp: the `dp` part of results.json, or None without differential privacy.
    """
    if not dp or dp.get("void"):
        return None
    values = [(dp.get("released") or {}).get(part) for part in _PARTS[target]]
    return None if None in values else max(value for value in values if value is not None)


def _rates(scores: Array, split: Split) -> list[float]:
    others = sides(scores, split, ~split.choosing)[1]
    return [rate for rate in RATES if rate > RAREST or len(others) >= FEWEST_AT_RAREST]
