"""From right guesses to a lower bound on epsilon (Steinke, Nasr and Jagielski 2023).

Each of m canaries is in or out by a fair coin of its own. Whoever sees the mechanism's output
guesses r of the coins, a number that was fixed before, and is right v times.

*Why many right guesses contradict a claim.* Let S be the coins and t an output. Under (epsilon, 0)
the odds of one coin, given t and the coins before it, are at most e^epsilon to 1, so each guess is
right with probability at most q = 1 / (1 + e^-epsilon), whatever the earlier ones were. The number
of right guesses is then stochastically below W ~ Binomial(r, q), and P[right >= v] <= P[W >= v].

*With delta.* The part of the output's distribution by which e^epsilon is exceeded has mass at most
delta for each coin. It can be laid out as F(t) guesses that are right for free: given t, the right
guesses are stochastically below W + F(t), where F depends on t alone and E[F] <= 2 m delta (their
proposition 5.7). W is independent of F, hence

    P[right >= v] <= E_F[P[W >= v - F]] = P[W >= v] + E_F[P[v > W >= v - F]]
                  <= P[W >= v] + 2 m delta max_{i >= 1} P[v > W >= v - i] / i,

as P[v > W >= v - i] <= i max_j P[v > W >= v - j] / j for each value i of F (their theorem 5.2).
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

_WIDTH = 1e-4


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float = 0.0) -> float:
    """The most that P[right >= correct] can be under (epsilon, delta)-DP; see the module's text.

    Args:
        canaries: m, how many were in or out by a fair coin, > 0.
        guesses: r, how many coins were guessed, fixed in advance, 0 <= r <= m.
        correct: v, how many guesses were right, 0 <= v <= r.
        epsilon: >= 0.
        delta: in [0, 1].

    Returns:
        In [0, 1].

    Raises:
        ValueError: a number is out of range.
    """
    if not (0 <= correct <= guesses <= canaries and canaries > 0):
        raise ValueError(
            f"Expected 0 <= correct={correct} <= guesses={guesses} <= canaries={canaries} > 0"
        )
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"Expected epsilon={epsilon} >= 0 and delta={delta} in [0, 1]")
    if correct == 0:
        return 1.0
    right = float(special.expit(epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, right))
    if delta == 0:
        return min(1.0, tail)
    # i = 1, 2, ..: P[v > W >= v - i] grows by the probability of v - i.
    below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    steepest = float(np.max(below / np.arange(1, correct + 1)))
    return min(1.0, tail + 2 * canaries * delta * steepest)


def epsilon_lower_bound(
    canaries: int, guesses: int, correct: int, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """The epsilon below which the guesses would be a surprise, rounded down by at most 1e-4.

    For a mechanism that is (epsilon, delta)-DP it exceeds epsilon with probability at most
    1 - confidence.

    Args:
        canaries: see `p_value`.
        guesses: see `p_value`.
        correct: see `p_value`.
        delta: see `p_value`.
        confidence: in (0, 1).

    Returns:
        At least 0: 0 where the guesses are no surprise at all. Finite: with r guesses nothing
        above `log(r / (1 - confidence))` or so can be shown.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Expected confidence={confidence} in (0, 1)")
    error = 1 - confidence

    def surprises(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) <= error

    if not surprises(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while surprises(high):
        low, high = high, 2 * high
    while high - low > _WIDTH:
        middle = (low + high) / 2
        low, high = (middle, high) if surprises(middle) else (low, middle)
    return low
