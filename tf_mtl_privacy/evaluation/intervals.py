"""Confidence intervals of a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from scipy.stats import beta

from tf_mtl_privacy.evaluation.schema import Interval


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Returns the Wilson score interval of a rate.

    Wilson (1927): `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`. It stays inside
    [0, 1] and does not shrink to a point at 0 or `n` successes.

    Args:
        successes: 0 <= successes <= n; need not be whole.
        n: number of trials, > 0.
        confidence: two-sided, in (0, 1).

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    _check(successes, n)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, z2 = successes / n, z**2
    centre = rate + z2 / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns the exact interval of a rate: each end errs in at most (1 - confidence) / 2 of cases.

    Clopper and Pearson (1934); its ends are quantiles of beta distributions.

    Args:
        successes: 0 <= successes <= n.
        n: number of trials, > 0.
        confidence: two-sided, in (0, 1).

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    _check(successes, n)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.isf(tail, successes + 1, n - successes)) if successes < n else 1.0
    return [low, high]


def balanced_accuracy_interval(
    hits: Sequence[float], rows: Sequence[int], confidence: float = 0.95
) -> Interval:
    """Returns the interval of a balanced accuracy, the mean of the recalls of K classes.

    `a +- z sqrt(sum_k p_k (1 - p_k) / n_k) / K`, where a is the mean of `hits / rows`. The classes'
    rows are disjoint, so the variances of the recalls add up. In the variance alone
    `p_k = (hits_k + 1/2) / (rows_k + 1)`, the mean under Jeffreys' prior, so that a class of few
    rows that are all right or all wrong is not taken as certain. A Wilson interval over all rows
    would be too narrow for uneven classes. (Wilson's shift of the centres towards 1/2 is left out:
    over many classes it adds up to more than the interval's width.)

    Args:
        hits: `[K]`, correctly classified rows of each class; need not be whole.
        rows: `[K]`, rows of each class; classes without any are left out.
        confidence: two-sided, in (0, 1).

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no class has rows, or one has more hits than rows.
    """
    classes = [(h, n) for h, n in zip(hits, rows, strict=True) if n]
    if not classes or any(not 0 <= h <= n for h, n in classes):
        raise ValueError(f"expected 0 <= hits={list(hits)} <= rows={list(rows)} and some rows")
    shares = [(h + 0.5) / (n + 1) for h, n in classes]
    variance = sum(p * (1 - p) / n for p, (_, n) in zip(shares, classes, strict=True))
    mean = sum(h / n for h, n in classes) / len(classes)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    spread = z * math.sqrt(variance) / len(classes)
    return [max(0.0, mean - spread), min(1.0, mean + spread)]


def _check(successes: float, n: int) -> None:
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes={successes} <= n={n} and n > 0")
