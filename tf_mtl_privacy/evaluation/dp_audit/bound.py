"""A lower bound on epsilon from correct guesses of canaries (Steinke, Nasr and Jagielski 2023).

Each of m canaries is in or out by a fair coin of its own. An observer of the mechanism's output
guesses r of the coins, a number fixed in advance, and v guesses are correct.

*Why many correct guesses contradict a claim.* Let S be the coins and t an output. Under epsilon
alone the odds of one coin, given t and the coins before it, are at most e^epsilon to 1, so each
guess is correct with probability at most q = 1 / (1 + e^-epsilon), whatever the earlier ones were.
The number of correct guesses is then stochastically below W ~ Binomial(r, q), hence
P[correct >= v] <= P[W >= v].

*With delta.* The part of the output's distribution that exceeds e^epsilon has mass at most delta
for each coin. It amounts to F(t) guesses that are correct for free: given t, the number of correct
guesses is stochastically below W + F(t), where F depends on t alone and E[F] <= 2 m delta (their
proposition 5.7). W is independent of F, hence

    P[correct >= v] <= E_F[P[W >= v - F]] = P[W >= v] + E_F[P[v > W >= v - F]]
                    <= P[W >= v] + 2 m delta max_{i >= 1} P[v > W >= v - i] / i,

as P[v > W >= v - i] <= i max_j P[v > W >= v - j] / j for each value i of F (their theorem 5.2).

The number of guesses is chosen before any score is seen, from a simulation with half the claimed
noise, the smallest fault that the audit is meant to find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun
from tf_mtl_privacy.types import Array

# Width at which the search for a bound stops.
_WIDTH = 1e-4


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float = 0.0) -> float:
    """Returns the largest probability of so many correct guesses under (epsilon, delta)-DP.

    Args:
        canaries: m, the number of canaries, > 0.
        guesses: r, the number of guesses, fixed in advance, 0 <= r <= m.
        correct: v, the number of correct guesses, 0 <= v <= r.
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
    """Returns a lower confidence bound on epsilon, rounded down by at most 1e-4.

    For an (epsilon, delta)-DP mechanism it exceeds epsilon with probability at most 1 - confidence.

    Args:
        canaries: see `p_value`.
        guesses: see `p_value`.
        correct: see `p_value`.
        delta: see `p_value`.
        confidence: in (0, 1).

    Returns:
        At least 0, and finite: r guesses cannot show more than about
        `log(r / (1 - confidence))`.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Expected confidence={confidence} in (0, 1)")
    error = 1 - confidence

    def is_rejected(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) <= error

    if not is_rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while is_rejected(high):
        low, high = high, 2 * high
    while high - low > _WIDTH:
        middle = (low + high) / 2
        low, high = (middle, high) if is_rejected(middle) else (low, middle)
    return low


# Draws of a simulation, its smallest number of canaries, and the smallest sample for a rate.
_DRAWS, _MIN_CANARIES, _MIN_SAMPLE = 2e7, 4_000, 16
# Ratio of the numbers of guesses that are tried.
_GRID = math.sqrt(2)


class Guesses(NamedTuple):
    """Numbers of guesses, fixed in advance; the observer abstains from the other canaries.

    Attributes:
        inside: k+, the highest scores, guessed to be in.
        outside: k-, the lowest scores, guessed to be out.
    """

    inside: int
    outside: int

    @property
    def total(self) -> int:
        """r of the bound."""
        return self.inside + self.outside


def evidence(projection: Array, noise_multiplier: float, probability: float) -> Array:
    """Returns the log likelihood ratio of "in" from one update, the most powerful score.

    Let x be the noised sum along a canary's direction over the clip norm. Without the canary x is
    N(0, z^2); with it, N(1, z^2) with probability q and else N(0, z^2):
    `log(1 - q + q exp((2 x - 1) / (2 z^2)))` (Neyman and Pearson 1933). For q = 1 this is x up to
    scale and shift.

    Args:
        projection: any shape, x.
        noise_multiplier: the claimed z, > 0.
        probability: q in (0, 1], the sampling probability.
    """
    inside = (2 * projection - 1) / (2 * noise_multiplier**2)
    if probability == 1:
        return np.asarray(inside)
    return np.logaddexp(math.log1p(-probability), math.log(probability) + inside)


def count_correct(scores: Array, included: Array, guesses: Guesses) -> int:
    """Returns the number of correct guesses.

    Args:
        scores: `[m]`, higher for "in".
        included: `[m]` bool, the coins.
        guesses: the numbers of guesses.
    """
    order = np.argsort(scores, kind="stable")
    lowest, highest = order[: guesses.outside], order[len(order) - guesses.inside :]
    return int(included[highest].sum() + (~included[lowest]).sum())


def plan_guesses(
    phases: Sequence[MechanismRun], canaries: int, delta: float, confidence: float, seed: int
) -> tuple[Guesses, float]:
    """Chooses the numbers of guesses with the highest bound in a simulation with half the noise.

    Args:
        phases: the updates, with the claimed noise multipliers.
        canaries: m.
        delta: of the bound.
        confidence: of the bound.
        seed: of the simulation.

    Returns:
        The guesses, and the bound that the simulation shows with them: what the audit would find if
        the noise were half. As the largest of many it is slightly optimistic.
    """
    scores, included = simulated_scores(phases, canaries, 0.5, seed)
    order = np.argsort(scores, kind="stable")
    scale = len(scores) / canaries
    inside_right = np.concatenate([[0], np.cumsum(included[order[::-1]])])
    outside_right = np.concatenate([[0], np.cumsum(~included[order])])
    candidates: list[tuple[float, int, Guesses]] = []
    for guesses in _choices(canaries):
        high, low = round(guesses.inside * scale), round(guesses.outside * scale)
        # Skips rates of too few simulated canaries.
        if not min(_MIN_SAMPLE, canaries / 2) <= high + low <= len(scores):
            continue
        rate = float(inside_right[high] + outside_right[low]) / (high + low)
        correct = int(rate * guesses.total)
        candidates.append((_without_delta(guesses.total, correct, confidence), correct, guesses))
    best, chosen = -1.0, Guesses(0, 0)
    for limit, correct, guesses in sorted(candidates, reverse=True):
        if limit <= best:
            break
        bound = epsilon_lower_bound(canaries, guesses.total, correct, delta, confidence)
        if bound > best:
            best, chosen = bound, guesses
    return chosen, best


def _choices(canaries: int) -> list[Guesses]:
    """Returns pairs from a geometric grid between 8 and half of the canaries, and 0."""
    half = canaries // 2
    count = max(0, int(math.log(max(half, 8) / 8, _GRID)))
    row = sorted({0, half, *(min(half, round(8 * _GRID**k)) for k in range(count + 1))})
    return [Guesses(i, o) for i in row for o in row if 0 < i + o <= canaries]


def _without_delta(total: int, correct: int, confidence: float) -> float:
    """Returns the bound for delta = 0, the largest for any delta (Clopper and Pearson 1934)."""
    low = float(stats.beta.ppf(1 - confidence, correct, total - correct + 1)) if correct else 0.0
    return math.log(low / (1 - low)) if low > 0.5 else 0.0


def simulated_scores(
    phases: Sequence[MechanismRun], canaries: int, noise_factor: float, seed: int
) -> tuple[Array, Array]:
    """Simulates scores of canaries against a Gaussian mechanism, without a network.

    Args:
        phases: the updates.
        canaries: largest number of canaries; with many updates fewer are simulated.
        noise_factor: actual over claimed noise, >= 0.
        seed: of the simulation.

    Returns:
        `(scores [n], included [n] bool)`, n <= canaries.
    """
    rng = np.random.default_rng(seed)
    updates = max(1, sum(phase.exposures for phase in phases))
    n = min(canaries, max(_MIN_CANARIES, int(_DRAWS / updates)))
    included, scores = rng.random(n) < 0.5, np.zeros(n)
    for phase in phases:
        z, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
        q = q if phase.mechanism.sampling == POISSON else 1.0
        for _ in range(phase.exposures):
            drawn = included if q == 1 else included & (rng.random(n) < q)
            noise = rng.standard_normal(n, dtype=np.float32)
            scores += evidence(drawn + noise_factor * z * noise, z, q)
    return scores, included
