"""Noise, or a number of steps, for a target epsilon. No TensorFlow.

Both are searched on the coarse grid of the accounting, which is pessimistic by up to 0.06 %: the
epsilon that is reported afterwards, on the fine grid, stays at or below the target.

How many more updates of a phase a budget allows, given what a ledger has counted.
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

_MOST_NOISE = 1e4
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
    """The smallest noise multiplier with which DP-SGD stays within (epsilon, delta).

    Args:
        target_epsilon: > 0.
        delta: in [1e-10, 1).
        sampling_probability: each row's chance to be in a step's batch (Poisson), in (0, 1].
        steps: number of updates, >= 1.
        overflow_probability: chance that a batch loses rows, see `PoissonBatches`.
        accountant: "pld" or "rdp".

    Returns:
        Noise standard deviation over clip norm, at most 0.1 % more than needed.

    Raises:
        UsageError: no noise up to 10,000 is enough.
    """
    mechanism = SampledGaussian(
        1.0, sampling_probability, overflow_probability=overflow_probability
    )
    found = calibrated([MechanismRun(mechanism, steps)], target_epsilon, delta, accountant)
    return found[0].mechanism.noise_multiplier


def calibrated(
    phases: Sequence[MechanismRun], target_epsilon: float, delta: float, accountant: str = "pld"
) -> list[MechanismRun]:
    """The phases with all noise multipliers scaled alike, so that the whole meets the target.

    Args:
        phases: at least one with steps > 0. Their noise multipliers (> 0) say how the noise is
            shared out; all 1 gives every phase the same noise.
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
    """Returns the phases with about `share` times the noise that Renyi accounting asks for.

    Fast and rough: for choices that have to be made before the noise is known.

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
        """log(epsilon / target), falling; below 0 where the target is met."""
        found = epsilon(_scaled(phases, factor), delta, accountant, interval=SEARCH)
        return math.log(max(found, 1e-9) / target)

    # Renyi accounting is fast and never far off: it says where to look.
    low, high = _bracket(phases, target, delta)
    above, below = excess(low), excess(high)
    while below > 0:
        if high > _MOST_NOISE:
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
    low, high = 1e-3, _MOST_NOISE
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
    """The upper end of a bracket around the root, narrowed to 0.03 %, by regula falsi in log x."""
    turn = 0
    while high > low * (1 + _PRECISION):
        # A chord alone can creep along one end: every third time the middle is taken.
        share = 0.5 if turn % 3 == 2 or math.isinf(above) else above / (above - below)
        share = min(max(share, 0.02), 0.98)
        # A little towards the upper end, where the search has to finish.
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
    """The most updates of `mechanism` after `before` that stay within (target_epsilon, delta).

    Args:
        mechanism: the update.
        target_epsilon: >= 0.
        delta: in [1e-10, 1).
        before: what ran already, of other mechanisms.
        accountant: "pld" or "rdp".
        guess: a number to try first (the plan), which makes the usual case fast.
        limit: the answer is at most this.
    """

    def spent(steps: int) -> float:
        phases = [*before, MechanismRun(mechanism, steps)]
        return epsilon(phases, delta, accountant, interval=SEARCH)

    if spent(0) > target_epsilon:
        return 0
    if spent(1) > target_epsilon:
        return 0
    low, high = 1, limit + 1
    tried, last, turn = min(max(guess, 2), limit), (1, spent(1)), 0
    while high - low > 1:
        point = tried, spent(tried)
        low, high = (tried, high) if point[1] <= target_epsilon else (low, tried)
        wanted = _on_power_law(last, point, target_epsilon) if turn < 20 else (low + high) / 2
        tried = int(min(max(wanted, low + 1), high - 1, 1e18))
        last, turn = point, turn + 1
    return low


def _on_power_law(first: tuple[int, float], second: tuple[int, float], target: float) -> float:
    """Where the power law through two points (steps, epsilon) reaches the target."""
    (n1, e1), (n2, e2) = first, second
    slope = 0.5
    if n1 != n2 and 0 < e1 != e2 > 0 and math.isfinite(e1 + e2):
        slope = min(max(math.log(e2 / e1) / math.log(n2 / n1), 0.2), 2.0)
    if not (math.isfinite(e2) and e2 > 0 and target > 0):
        return (n1 + n2) / 2
    return n2 * (target / e2) ** (1 / slope)


def affordable_together(
    state: LedgerState,
    updates: Sequence[str],
    count: int,
    target_epsilon: float,
    delta: float,
    *,
    within: Collection[str] | None = None,
) -> int:
    """How many of `count` more steps, each one update of all `updates`, stay within a budget.

    Args:
        state: what is counted already.
        updates: phases of the ledger that each step takes one update of.
        count: steps wanted, >= 0.
        target_epsilon: the budget, by PLD.
        delta: in [1e-10, 1).
        within: the phases that share the budget; None for all of them.
    """

    def fits(more: int) -> bool:
        phases = state.phases(dict.fromkeys(updates, more))
        shared = [part for name, part in phases.items() if within is None or name in within]
        return epsilon(shared, delta, interval=SEARCH) <= target_epsilon

    return largest(fits, count)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in [0, most] that fits, where a smaller one always does; 0 if none."""
    if most == 0 or fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
