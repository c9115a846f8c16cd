"""Epsilon of a run and of its phases at a given delta. Loads no TensorFlow.

Two accountants: "pld" (privacy loss distributions, tight) and "rdp" (Renyi, looser and fast).
Both are upper bounds. Values are cached.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting import pld, rdp
from tf_mtl_privacy.privacy.accounting.events import POISSON, SMALLEST_DELTA, MechanismRun
from tf_mtl_privacy.privacy.accounting.pld import loss_range
from tf_mtl_privacy.privacy.noise_record import UPDATE_TAIL, reach

ACCOUNTANTS = ("pld", "rdp")
# Intervals of the grid of privacy losses, in standard deviations of one update's loss. The second
# is a multiple of the first, so its epsilon is never smaller.
FINE, SEARCH = 0.03, 0.06
# No finer grid than needed where epsilon is large: (up to this epsilon, interval).
_LARGEST_INTERVALS = ((4.0, 1.0), (20.0, 4.0), (100.0, 8.0), (math.inf, 64.0))
# Rare but large losses would need longer grids; theirs are coarser.
_MAX_POINTS = 100_000
# Intervals are this times a power of two.
_UNIT = 1e-4
# Above this, epsilon protects nothing, and the grid would not fit into memory.
_HOPELESS = 1000.0


def epsilon(
    phases: Sequence[MechanismRun],
    delta: float,
    accountant: str = "pld",
    *,
    images_per_person: int = 1,
    interval: float = FINE,
) -> float:
    """Computes the epsilon of all phases together; the pair (epsilon, delta) holds.

    Let tau be the probability that any update departs from the ideal mechanism
    (`MechanismRun.departure`: a Poisson batch overflows, or noise is beyond the generator's reach).
    (1 + e^epsilon) tau is part of delta, so the accountant is evaluated at a smaller delta that
    leaves room for it.

    Args:
        phases: updates that ran; their Poisson batches and noise are independent.
        delta: in [1e-10, 1).
        accountant: "pld" or "rdp".
        images_per_person: 1 for the epsilon of an example; m > 1 for that of a person with at most
            m examples; 0 for a person with any number of them, who has no finite epsilon.
        interval: grid of the PLD accountant, `FINE` or `SEARCH`; its error is about 0.02 % and
            0.06 % of epsilon, and more if losses are rare and large (q below 1e-4, say).

    Returns:
        Epsilon >= 0; 0 if nothing ran; infinite for the reasons that `why_infinite` gives.

    Raises:
        UsageError: delta or the accountant's name is out of range.
    """
    if accountant not in ACCOUNTANTS:
        raise UsageError(f"accountant={accountant!r}: expected {' or '.join(ACCOUNTANTS)}")
    if not SMALLEST_DELTA <= delta < 1:
        raise UsageError(f"delta={delta:g}: expected in [{SMALLEST_DELTA:g}, 1)")
    ran = tuple(phase for phase in phases if phase.exposures)
    return _epsilon(ran, delta, accountant, images_per_person, interval)


@functools.lru_cache(maxsize=4096)
def _epsilon(
    phases: tuple[MechanismRun, ...], delta: float, accountant: str, images: int, interval: float
) -> float:
    if not phases:
        return 0.0
    if images < 1 or any(phase.mechanism.noise_multiplier == 0 for phase in phases):
        return math.inf
    departure = sum(phase.departure for phase in phases)

    def at(inner: float) -> float:
        return _accounted(phases, inner, accountant, images, interval)

    # Both tables depart from the ideal: delta + tau + e^epsilon * tau.
    return _largest_inner(at, lambda value: delta - (1 + math.exp(value)) * departure, delta)


def _accounted(
    phases: tuple[MechanismRun, ...], delta: float, accountant: str, images: int, interval: float
) -> float:
    renyi = rdp.epsilon_of(phases, delta, images)
    # Renyi accounting is exact at any delta, the convolutions of PLD are not.
    if accountant == "rdp" or renyi > _HOPELESS or delta < SMALLEST_DELTA:
        return renyi
    grid = _grid(phases, images, renyi, interval)
    return min(renyi, pld.epsilon_of(phases, delta, images, grid))


def _grid(phases: tuple[MechanismRun, ...], images: int, renyi: float, interval: float) -> float:
    """Chooses the interval of the grid of privacy losses.

    Rounding to a grid adds to each loss a variance of up to a quarter of the interval squared. So
    a fixed share of one update's standard deviation costs the same share of epsilon after any
    number of updates, for any epsilon.
    """
    wanted = interval * min(_deviation(phase, images) for phase in phases)
    if interval <= FINE or images > 1:
        largest = next(factor for limit, factor in _LARGEST_INTERVALS if renyi <= limit)
        # The grid of a person's losses is slow to make.
        wanted = min(wanted, max(largest, 4.0 if images > 1 else 0.0) * _UNIT)
    longest = max(_longest_loss(phase, images) for phase in phases)
    return max(_rounded_down(wanted), _rounded_down(longest / _MAX_POINTS))


def _longest_loss(phase: MechanismRun, images: int) -> float:
    """Returns the largest privacy loss of one update, apart from a mass below e^-50."""
    noise, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
    if phase.mechanism.sampling != POISSON:
        noise, q = noise / math.sqrt(phase.exposures), 1.0
    return max(abs(end) for end in loss_range(images, q, noise, removed=True))


def _deviation(phase: MechanismRun, images: int) -> float:
    """Estimates the standard deviation of one update's privacy loss.

    With little noise, rare large losses dominate it; a smaller value then resolves the others.
    """
    noise, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
    if phase.mechanism.sampling != POISSON:
        return images * math.sqrt(phase.exposures) / noise
    inverse = noise**-2
    # Linear in the loss's argument, and its root mean square; equal if noise is large.
    linear, square = q / noise, 1 / noise
    if inverse < 50:
        square = min(square, q * math.sqrt(math.expm1(inverse)))
    return images * math.sqrt(linear * square)


def _rounded_down(interval: float) -> float:
    """Returns the largest 1e-4 times a power of two that is at most `interval`."""
    return math.ldexp(_UNIT, math.floor(math.log2(interval / _UNIT)))


def why_infinite(phases: Sequence[MechanismRun], delta: float, images_per_person: int = 1) -> str:
    """Returns why `epsilon` of the same arguments is infinite, in words that follow "inf: "."""
    ran = [phase for phase in phases if phase.exposures]
    if any(phase.mechanism.noise_multiplier == 0 for phase in ran):
        return "updates without noise protect nothing"
    if images_per_person < 1:
        return "the number of images per person is not bounded (--max_images_per_person)"
    ideal = _accounted(tuple(ran), delta, "rdp", images_per_person, FINE)
    # Room for one update, if its part of delta may be a tenth.
    steps = sum(phase.steps for phase in ran)
    room = math.log(0.1 * delta / max(steps, 1)) - ideal
    full = max((phase.mechanism.overflow_probability for phase in ran), default=0.0)
    if full > UPDATE_TAIL and room > math.log(UPDATE_TAIL):
        return (
            f"a batch overflows with probability {full:.1g}, which is multiplied by e^epsilon and "
            f"uses up delta={delta:.3g}; lower --overflow_probability to "
            f"1e{math.floor(room / math.log(10))}, or leave it out"
        )
    return (
        f"the noise ends at {reach():.1f} standard deviations, and the probability beyond "
        f"({UPDATE_TAIL:.0e} per update), multiplied by e^epsilon, uses up delta={delta:.3g}; use "
        "more noise or fewer steps"
    )


def why_no_less_noise(phases: Sequence[MechanismRun], delta: float) -> str:
    """Returns why no epsilon holds with 1 % less noise; empty if one does."""
    less = [
        dataclasses.replace(
            phase,
            mechanism=dataclasses.replace(
                phase.mechanism, noise_multiplier=0.99 * phase.mechanism.noise_multiplier
            ),
        )
        for phase in phases
    ]
    return why_infinite(less, delta) if math.isinf(epsilon(less, delta, "rdp")) else ""


def replace_one_epsilon(
    phases: Sequence[MechanismRun], delta: float, accountant: str = "pld"
) -> float:
    """Bounds the epsilon of replacing one row by another from above.

    With Poisson sampling, replacing is removing one row and adding one: (2 epsilon, (1 + e^epsilon)
    delta) by group privacy (Vadhan 2017, lemma 2.2). With shuffled epochs the new row takes the
    old one's place and moves its batch's sum by at most 2 clip norms.
    """
    if all(phase.mechanism.sampling != POISSON for phase in phases if phase.steps):
        return epsilon(phases, delta, accountant, images_per_person=2)
    ran = tuple(phase for phase in phases if phase.exposures)
    return 2 * _largest_inner(
        lambda inner: _epsilon(ran, inner, accountant, 1, FINE),
        lambda value: delta / (1 + math.exp(value)),
        delta / 2,
    )


def _largest_inner(
    at: Callable[[float], float], room: Callable[[float], float], start: float
) -> float:
    """Returns `at(x)` for the largest x <= start with x <= room(at(x)); infinite if there is none.

    `at` and `room` both decrease, so x = room(at(x)) iterated from above decreases towards that x.
    Each turn shrinks x a little more, so the iteration ends where the condition holds.
    """
    inner = start
    for _ in range(200):
        value = at(inner)
        if value > 700:
            return math.inf
        allowed = room(value)
        if allowed >= inner:
            return value
        if allowed <= 0:
            return math.inf
        inner = allowed * (1 - 1e-4)
    return math.inf
