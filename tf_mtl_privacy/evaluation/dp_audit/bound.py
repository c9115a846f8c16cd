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

Scores of canaries, guesses from them, and how many guesses there will be.

The number of guesses is chosen before any score is seen, from a simulation of a mechanism with
half the noise that is claimed: that is the smallest fault that the audit means to find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun

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


Array = np.ndarray[Any, Any]
# Draws of a simulation, and the least canaries that it is made of.
_DRAWS, _LEAST, _HANDFUL = 2e7, 4_000, 16
# Ratio of neighbouring numbers of guesses that are tried.
_GRID = math.sqrt(2)


class Guesses(NamedTuple):
    """How many canaries are guessed, fixed in advance; the others are abstained from.

    Attributes:
        inside: k+, how many of the highest scores are guessed to be in.
        outside: k-, how many of the lowest scores are guessed to be out.
    """

    inside: int
    outside: int

    @property
    def total(self) -> int:
        """r of the bound."""
        return self.inside + self.outside


def evidence(projection: Array, noise_multiplier: float, probability: float) -> Array:
    """What one update says for "in": the log likelihood ratio, the strongest score there is.

    With x the noised sum along a canary's direction over the clip norm, x is N(0, z^2) if the
    canary is out, and if it is in N(1, z^2) with probability q, else N(0, z^2):
    `log(1 - q + q exp((2 x - 1) / (2 z^2)))` (Neyman and Pearson 1933). For q = 1 this is x up to
    scale and shift.

    Args:
        projection: any shape, x.
        noise_multiplier: z as it is claimed, > 0.
        probability: q in (0, 1], the chance to be in the update's batch.
    """
    inside = (2 * projection - 1) / (2 * noise_multiplier**2)
    if probability == 1:
        return np.asarray(inside)
    return np.logaddexp(math.log1p(-probability), math.log(probability) + inside)


def count_correct(scores: Array, included: Array, guesses: Guesses) -> int:
    """How many guesses are right.

    Args:
        scores: `[m]`, higher speaks for "in".
        included: `[m]` bool, the coins.
        guesses: how many to make.
    """
    order = np.argsort(scores, kind="stable")
    lowest, highest = order[: guesses.outside], order[len(order) - guesses.inside :]
    return int(included[highest].sum() + (~included[lowest]).sum())


def plan_guesses(
    phases: Sequence[MechanismRun], canaries: int, delta: float, confidence: float, seed: int
) -> tuple[Guesses, float]:
    """The numbers of guesses that promise most, were the noise half of what is claimed.

    Args:
        phases: the updates; their noise multipliers are the claimed ones.
        canaries: m.
        delta: of the bound.
        confidence: of the bound.
        seed: of the simulation.

    Returns:
        The guesses, and the epsilon that the simulation shows with them: what the audit can be
        expected to find if the noise is half. It is chosen as the largest, so a little hopeful.
    """
    scores, included = simulated_scores(phases, canaries, 0.5, seed)
    order = np.argsort(scores, kind="stable")
    scale = len(scores) / canaries
    inside_right = np.concatenate([[0], np.cumsum(included[order[::-1]])])
    outside_right = np.concatenate([[0], np.cumsum(~included[order])])
    found: list[tuple[float, int, Guesses]] = []
    for guesses in _choices(canaries):
        high, low = round(guesses.inside * scale), round(guesses.outside * scale)
        # A rate of a handful of simulated canaries says nothing.
        if not min(_HANDFUL, canaries / 2) <= high + low <= len(scores):
            continue
        rate = float(inside_right[high] + outside_right[low]) / (high + low)
        correct = int(rate * guesses.total)
        found.append((_without_delta(guesses.total, correct, confidence), correct, guesses))
    best, chosen = -1.0, Guesses(0, 0)
    for most, correct, guesses in sorted(found, reverse=True):
        if most <= best:
            break
        bound = epsilon_lower_bound(canaries, guesses.total, correct, delta, confidence)
        if bound > best:
            best, chosen = bound, guesses
    return chosen, best


def _choices(canaries: int) -> list[Guesses]:
    """Pairs of numbers from a geometric row between 8 and half of the canaries, or 0."""
    most = canaries // 2
    count = max(0, int(math.log(max(most, 8) / 8, _GRID)))
    row = sorted({0, most, *(min(most, round(8 * _GRID**k)) for k in range(count + 1))})
    return [Guesses(i, o) for i in row for o in row if 0 < i + o <= canaries]


def _without_delta(total: int, correct: int, confidence: float) -> float:
    """The bound for delta = 0, which no other delta exceeds: Clopper and Pearson's (1934), >= 0."""
    low = float(stats.beta.ppf(1 - confidence, correct, total - correct + 1)) if correct else 0.0
    return math.log(low / (1 - low)) if low > 0.5 else 0.0


def simulated_scores(
    phases: Sequence[MechanismRun], canaries: int, noise_factor: float, seed: int
) -> tuple[Array, Array]:
    """Scores of canaries against a Gaussian mechanism in NumPy, without a network.

    Args:
        phases: the updates.
        canaries: at most so many are simulated, fewer where there are many updates.
        noise_factor: the noise over the claimed noise, >= 0.
        seed: of the simulation.

    Returns:
        `(scores [n], included [n] bool)`, n <= canaries.
    """
    rng = np.random.default_rng(seed)
    updates = max(1, sum(phase.exposures for phase in phases))
    n = min(canaries, max(_LEAST, int(_DRAWS / updates)))
    included, scores = rng.random(n) < 0.5, np.zeros(n)
    for phase in phases:
        z, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
        q = q if phase.mechanism.sampling == POISSON else 1.0
        for _ in range(phase.exposures):
            drawn = included if q == 1 else included & (rng.random(n) < q)
            noise = rng.standard_normal(n, dtype=np.float32)
            scores += evidence(drawn + noise_factor * z * noise, z, q)
    return scores, included
