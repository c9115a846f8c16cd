"""Confidence intervals of a rate."""

from __future__ import annotations

import math
from statistics import NormalDist

from scipy.stats import beta


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> list[float]:
    """The Wilson score interval of a rate.

    Wilson (1927): `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`. It stays inside
    [0, 1] and does not shrink to a point at 0 or `n` successes.

    Args:
        successes: how often it happened, 0 <= successes <= n; need not be whole.
        n: number of trials, > 0.
        confidence: two-sided, in (0, 1).

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes={successes} <= n={n} and n > 0")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, z2 = successes / n, z**2
    centre = rate + z2 / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> list[float]:
    """The exact interval of a rate: each end errs in at most (1 - confidence) / 2 of cases.

    Clopper and Pearson (1934); its ends are quantiles of beta distributions.

    Args:
        successes: how often it happened, 0 <= successes <= n.
        n: number of trials, > 0.
        confidence: two-sided, in (0, 1).

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes={successes} <= n={n} and n > 0")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.isf(tail, successes + 1, n - successes)) if successes < n else 1.0
    return [low, high]
