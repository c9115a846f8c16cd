"""ROC, AUC, advantage and TPR at a small FPR of membership scores, with intervals."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score, roc_curve

from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.schema import (
    AttackFigures,
    Interval,
    RocCurve,
    TruePositiveRate,
)
from tf_mtl_privacy.types import Array

RATES = (0.001, 0.01, 0.05)
# At this FPR a figure needs so many non-members.
MIN_AT_RAREST, RAREST = 10_000, 0.001
_POINTS = 40
_CONFIDENCE = 0.95


def roc(members: Array, non_members: Array) -> tuple[Array, Array]:
    """Returns (FPR, TPR) at every threshold, ascending from (0, 0) to (1, 1).

    Args:
        members: `[M]` float scores, larger means member; M > 0.
        non_members: `[N]` float scores; N > 0.

    Raises:
        ValueError: a side is empty, or scores are not finite.
    """
    for name, scores in (("members", members), ("non-members", non_members)):
        if not len(scores) or not np.isfinite(scores).all():
            raise ValueError(f"{name}: expected at least one score, all of them finite")
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    fpr, tpr, _ = roc_curve(truth, np.concatenate([members, non_members]), drop_intermediate=False)
    return fpr, tpr


def auc(members: Array, non_members: Array) -> tuple[float, Interval]:
    """Returns the area under the ROC and its 95 % interval.

    The interval is Newcombe's (2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic. Part 2", method 5): the values t with `|t - auc| <= z sd(t)`, with
    Hanley and McNeil's variance at t. It does not shrink to a point at 0 or 1.
    """
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    value = float(roc_auc_score(truth, np.concatenate([members, non_members])))
    m, n, z = len(members), len(non_members), norm.ppf((1 + _CONFIDENCE) / 2)
    more = (m + n) / 2 - 1

    def beyond(t: float) -> float:
        variance = t * (1 - t) * (1 + more * ((1 - t) / (2 - t) + t / (1 + t))) / (m * n)
        return abs(t - value) - float(z) * math.sqrt(max(variance, 0.0))

    # At 0 and 1 the variance is 0, which is a solution but not the wanted one.
    inner = min(max(value, 1e-9), 1 - 1e-9)
    low = 0.0 if value <= 0 else float(brentq(beyond, 0.0, inner))
    high = 1.0 if value >= 1 else float(brentq(beyond, inner, 1.0))
    return value, [low, high]


def advantage(members: Array, non_members: Array, threshold: float) -> tuple[float, Interval]:
    """Returns `TPR - FPR` of "score >= threshold" and its 95 % interval, in [-1, 1].

    Yeom et al. (2018), definition 4. The threshold comes from other rows (`best_threshold`): on the
    same rows the largest difference over all thresholds is above 0 even for random scores.
    The interval is Newcombe's (1998) for a difference of two rates, from their Wilson intervals.
    """
    hits, misses = int((members >= threshold).sum()), int((non_members >= threshold).sum())
    tpr, fpr = hits / len(members), misses / len(non_members)
    low_t, high_t = wilson_interval(hits, len(members))
    low_f, high_f = wilson_interval(misses, len(non_members))
    below = math.hypot(tpr - low_t, high_f - fpr)
    above = math.hypot(high_t - tpr, fpr - low_f)
    return tpr - fpr, [max(-1.0, tpr - fpr - below), min(1.0, tpr - fpr + above)]


def best_threshold(members: Array, non_members: Array) -> float:
    """Returns the threshold with the largest `TPR - FPR`."""
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    fpr, tpr, thresholds = roc_curve(truth, np.concatenate([members, non_members]))
    return float(thresholds[int(np.argmax(tpr - fpr))])


def tpr_at(
    members: Array, non_members: Array, rate: float, confidence: float = _CONFIDENCE
) -> tuple[float, Interval]:
    """Returns the TPR at an FPR, and an interval for the finite numbers of both sides.

    The value is the ROC's, linear between its points (a randomised threshold). It is uncertain for
    two reasons: the M members above the threshold (Wilson's interval), and the position of the
    threshold between two order statistics of N non-members. With this confidence, l to u of them
    lie above it, by `binom(N, rate)`; the TPR then lies between that at the l-th non-member (0 for
    l = 0) and that at the (u+1)-th. Both distances from the value are combined as the root of the
    sum of squares (Zou and Donner 2008, "Construction of confidence limits about effect measures",
    the method of variance estimates recovery).

    Args:
        members: `[M]` float scores.
        non_members: `[N]` float scores.
        rate: in (0, 1).
        confidence: of the interval, two-sided.
    """
    fpr, tpr = roc(members, non_members)
    m, n, tail = len(members), len(non_members), (1 - confidence) / 2
    value = float(np.interp(rate, fpr, tpr))
    low, high = wilson_interval(min(value * m, m), m, confidence)
    low_count, high_count = binom.ppf([tail, 1 - tail], n, rate)
    # Where the curve rises at one FPR this is its upper end: all members above the next score.
    looser = np.interp(high_count / n, fpr, tpr)
    stricter = np.interp((low_count - 1) / n, fpr, tpr) if low_count else 0.0
    below = math.hypot(value - low, value - stricter)
    above = math.hypot(high - value, looser - value)
    return value, [max(0.0, value - below), min(1.0, value + above)]


def figures(members: Array, non_members: Array, threshold: float) -> AttackFigures:
    """Returns the figures of one attack for audit.json.

    Args:
        members: `[M]` float scores of rows that neither trained nor chose the attack.
        non_members: `[N]` float scores of such rows.
        threshold: for the advantage, from other rows.
    """
    area, area_ci = auc(members, non_members)
    gain, gain_ci = advantage(members, non_members, threshold)
    return {
        "members": len(members),
        "non_members": len(non_members),
        "auc": area,
        "auc_ci95": area_ci,
        "advantage": gain,
        "advantage_ci95": gain_ci,
        "tpr_at_fpr": {f"{rate:g}": _at(members, non_members, rate) for rate in RATES},
        "roc": _thinned(*roc(members, non_members)),
    }


def _at(members: Array, non_members: Array, rate: float) -> TruePositiveRate:
    if rate <= RAREST and len(non_members) < MIN_AT_RAREST:
        return {"value": None, "ci95": None}
    value, ci95 = tpr_at(members, non_members, rate)
    return {"value": value, "ci95": ci95}


def _thinned(fpr: Array, tpr: Array) -> RocCurve:
    """Returns 40 points, evenly spaced on a logarithmic FPR axis, with both ends."""
    first = max(float(fpr[fpr > 0].min(initial=1.0)), 1e-4)
    places = np.concatenate([[0.0], np.geomspace(first, 1.0, _POINTS - 1)])
    places[-1] = 1.0
    values = np.interp(places, fpr, tpr)
    return {
        "fpr": [float(f"{place:.5g}") for place in places],
        "tpr": [round(float(value), 5) for value in values],
    }
