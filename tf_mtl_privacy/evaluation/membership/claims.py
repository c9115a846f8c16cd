"""Checks of membership figures: against claimed epsilons, and that the two samples are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tf_mtl_privacy.evaluation.membership.attacks import (
    Split,
    learned_scores,
    operating_points,
    sides,
    strongest_attack,
)
from tf_mtl_privacy.evaluation.membership.roc import MIN_AT_RAREST, RAREST, RATES, auc
from tf_mtl_privacy.evaluation.membership.verdict import ALIKE, DIFFER, NOT_SHOWN
from tf_mtl_privacy.evaluation.schema import DPStatus, SameDistribution
from tf_mtl_privacy.types import Array

# Networks behind each target; its claim is the weakest of theirs.
_PARTS = {
    "business": ("encoder", "business"),
    # Attackers of features also run the released classifier on them.
    "features": ("encoder", "business"),
    "release": ("encoder", "business", "restorer", "discriminator"),
}
# Attacks on these targets are also attacks on the key.
_WITHIN = {
    "business": ("business",),
    "features": ("features",),
    "release": ("business", "features", "release"),
}
_READERS = ("logistic", "trees")
# Smaller AUCs are too low to affect the attacks' figures.
ALIKE_BELOW = 0.55


def max_tpr(epsilon: float, delta: float, rate: float) -> float:
    """Returns the highest TPR at an FPR under (epsilon, delta)-differential privacy, in [0, 1].

    Kairouz, Oh and Viswanath (2015), "The Composition Theorem for Differential Privacy", theorem
    2.1: `min(e^eps * fpr + delta, 1 - e^-eps * (1 - delta - fpr))`.
    """
    tangent = math.exp(min(epsilon, 700.0)) * rate + delta
    return min(1.0, tangent, 1 - math.exp(-epsilon) * max(0.0, 1 - delta - rate))


def contradictions(
    scores: Mapping[tuple[str, str], Array], split: Split, dp: DPStatus | None
) -> list[str]:
    """Returns a sentence for each target whose claimed epsilon an attack contradicts.

    The strongest attack on each target with a claim, or on a part of it, is tested on the reporting
    half at thresholds from the choosing half (`operating_points`). All tests together err in at
    most 5 % of cases; the canaries of `dp_audit` err in another 5 %.

    Args:
        scores: (target, attack) -> `[N]` scores.
        split: see `Split`.
        dp: the `dp` part of results.json.
    """
    claims = {target: claimed(target, dp) for target, _ in scores}
    stated = {target: epsilon for target, epsilon in claims.items() if epsilon is not None}
    messages = []
    for target, epsilon in stated.items():
        assert dp is not None
        attacks = {name: values for name, values in scores.items() if name[0] in _WITHIN[target]}
        name = strongest_attack(attacks, split)
        rates = _rates(attacks[name], split)
        for tpr, fpr in operating_points(attacks[name], split, rates, tests=len(stated)):
            cap = max_tpr(epsilon, dp["delta"] or 0.0, fpr)
            if tpr > cap:
                messages.append(
                    f"{target}: the attack {name[1]} has a TPR of at least {tpr:.1%} at an FPR "
                    f"of at most {fpr:.1%}; the released epsilon of {epsilon:.4g} allows {cap:.1%}"
                )
                break
    return messages


def claimed(target: str, dp: DPStatus | None) -> float | None:
    """Returns the claimed epsilon of a target; None where a network behind it has none.

    Args:
        target: 'business', 'features' or 'release'.
        dp: the `dp` part of results.json, or None without differential privacy.
    """
    if not dp or dp.get("void"):
        return None
    values = [(dp.get("released") or {}).get(part) for part in _PARTS[target]]
    return None if None in values else max(value for value in values if value is not None)


def same_distribution(rows: Array, split: Split, seed: int) -> SameDistribution:
    """Checks that classifiers without the model cannot tell members from non-members.

    If they can, the two samples differ (another camera, other labels, more missing ones), and every
    attack would mistake that for membership. The better of two classifiers by AUC on the choosing
    half is reported on the other half.

    Args:
        rows: `[N, p]` float, see `known_without_model`.
        split: see `Split`.
        seed: of the classifiers.

    Returns:
        `state` is "alike" where the interval ends below `alike_below` (an AUC below 0.5 counts as
        0.5 here), even if it lies above 0.5: so small a difference does not matter; "differ" where
        it lies above 0.5 and ends higher; else "not_shown" (too few rows to tell). `ok` is False
        for "differ".
    """
    tries = [learned_scores(name, rows, split, seed) for name in _READERS]
    scores = max(tries, key=lambda values: auc(*sides(values, split, split.choosing))[0])
    value, ci95 = auc(*sides(scores, split, ~split.choosing))
    # An AUC below 0.5 is chance and must not compensate for a wide interval.
    end = max(value, 0.5) + ci95[1] - value
    state = ALIKE if end < ALIKE_BELOW else DIFFER if ci95[0] > 0.5 else NOT_SHOWN
    return {
        "auc": value,
        "ci95": ci95,
        "ok": state != DIFFER,
        "state": state,
        "alike_below": ALIKE_BELOW,
    }


def known_without_model(pictures: Array, labels: Mapping[str, Array], private: Array) -> Array:
    """Returns everything that attackers know about a row without the model, `[N, p]` float32.

    Args:
        pictures: `[N, q]` float, see `ReleasedOutputs.pictures`.
        labels: task -> `[N]` int; -1, unknown, counts as a value.
        private: `[N]` int, private labels; only rows with one have a discriminator loss.
    """
    columns = [pictures, (private < 0)[:, None]]
    columns += [values[:, None] == np.unique(values) for values in labels.values()]
    return np.concatenate([part.astype(np.float32) for part in columns], axis=1)


def _rates(scores: Array, split: Split) -> list[float]:
    others = sides(scores, split, ~split.choosing)[1]
    return [rate for rate in RATES if rate > RAREST or len(others) >= MIN_AT_RAREST]
