"""Epsilon of a run and of its phases, true at the delta that is asked for. No TensorFlow.

Two accountants: "pld" (privacy loss distributions, tight) and "rdp" (Renyi, looser and fast).
Both are upper bounds. Values are cached.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import accounting_pld, accounting_rdp
from tf_mtl_privacy.privacy.accounting_events import POISSON, SMALLEST_DELTA, Phase

ACCOUNTANTS = ("pld", "rdp")
# Grids of privacy losses. Each is a multiple of the finer ones, so a finer one is never looser.
FINE, SEARCH = 1e-4, 5e-4
# Above this there is nothing left to be exact about, and the grid would not fit into memory.
_HOPELESS = 1000.0


def epsilon(
    phases: Sequence[Phase],
    delta: float,
    accountant: str = "pld",
    *,
    images_per_person: int = 1,
    interval: float = FINE,
) -> float:
    """The epsilon of all phases together: the reported pair (epsilon, delta) is true.

    The chance that a Poisson batch overflows is part of delta, as (1 + e^epsilon) * steps *
    P(overflow): the accountant is asked at a delta that leaves room for it.

    Args:
        phases: what ran; their Poisson batches and noise are independent.
        delta: in [1e-10, 1).
        accountant: "pld" or "rdp".
        images_per_person: 1 for the epsilon of an image; m > 1 for that of a person with at most m
            images; 0 for a person with any number of them, which has none.
        interval: grid of the PLD accountant; made coarser where epsilon is large.

    Returns:
        Epsilon >= 0, 0 where nothing ran, infinite where there is no noise, no bound on images
        per person, or an overflow is too likely.

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
    phases: tuple[Phase, ...], delta: float, accountant: str, images: int, interval: float
) -> float:
    if not phases:
        return 0.0
    if images < 1 or any(phase.mechanism.noise_multiplier == 0 for phase in phases):
        return math.inf
    overflow = sum(phase.overflow for phase in phases)

    def at(inner: float) -> float:
        return _accounted(phases, inner, accountant, images, interval)

    if overflow == 0:
        return at(delta)
    # The tables differ by the overflow on either side: delta + tau + e^epsilon * tau.
    return _largest_inner(at, lambda value: delta - (1 + math.exp(value)) * overflow, delta)


def _accounted(
    phases: tuple[Phase, ...], delta: float, accountant: str, images: int, interval: float
) -> float:
    renyi = accounting_rdp.epsilon_of(phases, delta, images)
    if accountant == "rdp" or renyi > _HOPELESS:
        return renyi
    if delta < SMALLEST_DELTA:
        return math.inf
    # Coarser where epsilon is large: the grid is as long as the losses, and rounding matters less.
    floor = next(grid for limit, grid in _GRIDS if renyi <= limit)
    if images > 1:
        floor = max(floor, SEARCH)
    return accounting_pld.epsilon_of(phases, delta, images, max(interval, floor))


_GRIDS = ((4.0, FINE), (20.0, SEARCH), (100.0, 1e-3), (math.inf, 1e-2))


def replace_one_epsilon(phases: Sequence[Phase], delta: float, accountant: str = "pld") -> float:
    """An upper bound on the epsilon of replacing one row by another one.

    With Poisson sampling it is taking a row away and adding one: (2 epsilon, (1 + e^epsilon)
    delta) by group privacy (Vadhan 2017, lemma 2.2). With shuffled epochs the new row stands in
    the old one's place and moves its batch's sum by at most 2 clip norms.
    """
    if all(phase.mechanism.sampling != POISSON for phase in phases if phase.steps):
        return epsilon(phases, delta, accountant, images_per_person=2)
    found = _largest_inner(
        lambda inner: math.inf if inner < SMALLEST_DELTA else epsilon(phases, inner, accountant),
        lambda value: delta / (1 + math.exp(value)),
        delta / 2,
    )
    return 2 * found


def _largest_inner(
    at: Callable[[float], float], room: Callable[[float], float], start: float
) -> float:
    """`at(x)` for the largest x <= start with x <= room(at(x)); infinite where there is none.

    `at` and `room` both fall, so x = room(at(x)) iterated from above falls towards that x; it is
    shrunk by a little in each turn, so that the iteration ends where the condition holds.
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
