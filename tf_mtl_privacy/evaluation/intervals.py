"""Confidence intervals of a rate."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


def wilson_interval(successes: int, n: int) -> list[float]:
    """The 95 % Wilson score interval of a rate.

    Wilson (1927): `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`. It stays inside
    [0, 1] and does not shrink to a point at 0 or `n` successes.

    Args:
        successes: how often it happened, 0 <= successes <= n.
        n: number of trials, > 0.

    Returns:
        `[low, high]`, both in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes={successes} <= n={n} and n > 0")
    rate, z2 = successes / n, _Z95**2
    centre = rate + z2 / (2 * n)
    spread = _Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]
