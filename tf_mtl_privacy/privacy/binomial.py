"""The exact upper tail of the binomial distribution, and the batch capacity that it asks for."""

from __future__ import annotations

import math
import sys

# Log-gamma of a million is good to about 1e-9 relative; the tail is rounded up by more than that.
_ROUND_UP = 1 + 1e-6


def upper_tail(count: int, trials: int, probability: float) -> float:
    """P(X > count) for X ~ Binomial(trials, probability), summed term by term.

    Args:
        count: >= 0.
        trials: >= 0.
        probability: in (0, 1].

    Returns:
        The probability, at most a millionth (relative) above the exact value and not below it.
    """
    if count >= trials:
        return 0.0
    if probability == 1.0:
        return 1.0
    if count + 1 <= trials * probability:
        # Left of the mean the upper tail's terms grow: sum the lower tail, which is shorter.
        lower = _sum_from(trials - count, trials, 1.0 - probability)
        return min(1.0, max(0.0, 1.0 - lower) * _ROUND_UP)
    return min(1.0, _sum_from(count + 1, trials, probability) * _ROUND_UP)


def capacity_for(trials: int, probability: float, overflow_probability: float) -> int:
    """Returns the smallest capacity that a binomial draw exceeds with at most this chance.

    Args:
        trials: rows, >= 1.
        probability: each row's chance, in (0, 1].
        overflow_probability: >= 0; 0 gives a place to each trial.
    """
    low, high = 0, trials
    while low < high:
        middle = (low + high) // 2
        if upper_tail(middle, trials, probability) <= overflow_probability:
            high = middle
        else:
            low = middle + 1
    return max(low, 1)


def _sum_from(first: int, trials: int, probability: float) -> float:
    """P(X >= first), where `first` is above the mean, so that the terms fall."""
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(first + 1)
        - math.lgamma(trials - first + 1)
        + first * math.log(probability)
        + (trials - first) * math.log1p(-probability)
    )
    odds = probability / (1.0 - probability)
    # Relative to the first term, so that a tail below 1e-308 does not stop the sum.
    relative, total = 1.0, 0.0
    for k in range(first, trials + 1):
        total += relative
        if relative < 1e-18 * total:
            break
        relative *= (trials - k) / (k + 1) * odds
    # Never rounded down to zero.
    return max(math.exp(log_term + math.log(total)), sys.float_info.min)
