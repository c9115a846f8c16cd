"""Noise, or a number of steps, for a target epsilon. Loads no TensorFlow.

All searches use the coarse grid of the accounting, which is pessimistic by up to 0.06 %, so the
epsilon that is reported afterwards, on the fine grid, is at or below the target.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.epsilon import SEARCH, epsilon, why_infinite
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.ledger import LedgerState

_MAX_NOISE = 1e4
_PRECISION = 3e-4


def noise_for_epsilon(
    target_epsilon: float,
    delta: float,
    sampling_probability: float,
    steps: int,
    *,
    overflow_probability: float = 0.0,
    accountant: str = "pld",
) -> float:
    """Returns the smallest noise multiplier with which DP-SGD stays within (epsilon, delta).

    Args:
        target_epsilon: > 0.
        delta: in [1e-10, 1).
        sampling_probability: of each row in each step (Poisson), in (0, 1].
        steps: number of updates, >= 1.
        overflow_probability: probability that a batch loses rows, see `PoissonBatches`.
        accountant: "pld" or "rdp".

    Returns:
        Noise standard deviation over clip norm, at most 0.1 % more than needed.

    Raises:
        UsageError: no noise up to 10,000 is enough.
    """
    mechanism = SampledGaussian(
        1.0, sampling_probability, overflow_probability=overflow_probability
    )
    (phase,) = calibrated([MechanismRun(mechanism, steps)], target_epsilon, delta, accountant)
    return phase.mechanism.noise_multiplier


def calibrated(
    phases: Sequence[MechanismRun], target_epsilon: float, delta: float, accountant: str = "pld"
) -> list[MechanismRun]:
    """Scales all noise multipliers by one factor, so that the phases together meet the target.

    Args:
        phases: at least one with steps > 0. The ratios of their noise multipliers (> 0) are kept;
            all 1 gives every phase the same noise.
        target_epsilon: > 0, of all phases together.
        delta: in [1e-10, 1).
        accountant: "pld" or "rdp".

    Returns:
        The same phases with other noise, at most 0.1 % more than needed.

    Raises:
        UsageError: a number is out of range, or no noise up to 10,000 is enough.
    """
    if not target_epsilon > 0:
        raise UsageError(f"target_epsilon={target_epsilon}: expected > 0")
    if not any(phase.steps for phase in phases):
        raise UsageError("no steps to calibrate noise for: expected at least one")
    factor = _smallest_factor(tuple(phases), target_epsilon, delta, accountant)
    return _scaled(phases, factor)


def renyi_calibrated(
    phases: Sequence[MechanismRun], target_epsilon: float, delta: float, share: float = 1.0
) -> list[MechanismRun]:
    """Returns the phases with about `share` times the noise that Renyi accounting needs.

    Fast and rough, for choices that are made before the noise is known.

    Args:
        phases: as in `calibrated`.
        target_epsilon: > 0.
        delta: in (0, 1).
        share: > 0.
    """
    return _scaled(phases, share * _bracket(tuple(phases), target_epsilon, delta)[1])


def _scaled(phases: Sequence[MechanismRun], factor: float) -> list[MechanismRun]:
    def scale(mechanism: SampledGaussian) -> SampledGaussian:
        return dataclasses.replace(mechanism, noise_multiplier=mechanism.noise_multiplier * factor)

    return [dataclasses.replace(phase, mechanism=scale(phase.mechanism)) for phase in phases]


@functools.lru_cache(maxsize=256)
def _smallest_factor(
    phases: tuple[MechanismRun, ...], target: float, delta: float, accountant: str
) -> float:
    def excess(factor: float) -> float:
        """Returns log(epsilon / target), decreasing; at most 0 if the target is met."""
        value = epsilon(_scaled(phases, factor), delta, accountant, interval=SEARCH)
        return math.log(max(value, 1e-9) / target)

    # Renyi accounting is fast and never far off, so it gives the first bracket.
    low, high = _bracket(phases, target, delta)
    above, below = excess(low), excess(high)
    while below > 0:
        if high > _MAX_NOISE:
            steps = sum(phase.steps for phase in phases)
            reason = ", up to a noise multiplier of 10,000; train for fewer epochs or allow more"
            if math.isinf(below):
                reason = f": {why_infinite(_scaled(phases, high), delta)}"
            raise UsageError(
                f"target_epsilon={target:g} at delta={delta:g}: no noise reaches it in {steps} "
                f"steps{reason}"
            )
        low, above, high = high, below, high * 2
        below = excess(high)
    while above <= 0 and low > 1e-6:
        high, below, low = low, above, low / 2
        above = excess(low)
    return _falling_root(excess, low, above, high, below)


def _bracket(phases: tuple[MechanismRun, ...], target: float, delta: float) -> tuple[float, float]:
    low, high = 1e-3, _MAX_NOISE
    for _ in range(20):
        middle = math.sqrt(low * high)
        if epsilon(_scaled(phases, middle), delta, "rdp") <= target:
            high = middle
        else:
            low = middle
    return 0.8 * low, high


def _falling_root(
    function: Callable[[float], float], low: float, above: float, high: float, below: float
) -> float:
    """Narrows a bracket around a root to 0.03 % by regula falsi in log x -> its upper end."""
    turn = 0
    while high > low * (1 + _PRECISION):
        # A chord alone can creep along one end, so every third turn takes the middle.
        share = 0.5 if turn % 3 == 2 or math.isinf(above) else above / (above - below)
        share = min(max(share, 0.02), 0.98)
        # Slightly towards the upper end, where the search must finish.
        middle = math.exp((1 - share) * math.log(low) + share * math.log(high))
        middle = min(middle * (1 + _PRECISION / 3), math.sqrt(middle * high))
        value = function(middle)
        if value <= 0:
            high, below = middle, value
        else:
            low, above = middle, value
        turn += 1
    return high


def max_steps(
    mechanism: SampledGaussian,
    target_epsilon: float,
    delta: float,
    *,
    before: Sequence[MechanismRun] = (),
    accountant: str = "pld",
    guess: int = 0,
    limit: int = 10**7,
) -> int:
    """Returns the largest number of updates of `mechanism` within (target_epsilon, delta).

    Args:
        mechanism: the update.
        target_epsilon: >= 0.
        delta: in [1e-10, 1).
        before: updates of other mechanisms that ran already.
        accountant: "pld" or "rdp".
        guess: a number to try first (the plan), which makes the usual case fast.
        limit: upper bound on the answer.
    """

    def fits(steps: int) -> bool:
        phases = [*before, MechanismRun(mechanism, steps)]
        return epsilon(phases, delta, accountant, interval=SEARCH) <= target_epsilon

    if not fits(0):
        return 0
    low, high = 0, min(max(guess, 1), limit)
    while high < limit and fits(high):
        low, high = high, min(high + max(high // 8, 1), limit) if guess else min(2 * high, limit)
    return low + largest(lambda more: fits(low + more), high - low)


def affordable_together(
    state: LedgerState,
    updates: Sequence[str],
    count: int,
    target_epsilon: float,
    delta: float,
    *,
    within: Collection[str] | None = None,
) -> int:
    """Returns how many of `count` more steps fit a budget, each one update of all `updates`.

    Args:
        state: the updates that are counted already.
        updates: phases of the ledger that each step takes one update of.
        count: steps wanted, >= 0.
        target_epsilon: the budget, by PLD.
        delta: in [1e-10, 1).
        within: the phases that share the budget; None for all.
    """

    def fits(more: int) -> bool:
        phases = state.phases(dict.fromkeys(updates, more))
        shared = [part for name, part in phases.items() if within is None or name in within]
        return epsilon(shared, delta, interval=SEARCH) <= target_epsilon

    return largest(fits, count)


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """Returns the largest number in [0, limit] that fits, if smaller ones always do; 0 if none."""
    if limit == 0 or fits(limit):
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
