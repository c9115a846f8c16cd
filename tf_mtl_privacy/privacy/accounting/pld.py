"""Privacy loss distributions of phases by dp-accounting, for a row and for a person's rows.

Of a person's m rows, k ~ Binomial(m, q) are in a Poisson batch, and they move the clipped sum by
at most k clip norms. The pair N(0, z^2) and sum_k P(k) N(k, z^2) dominates one update with these
rows and without them, adaptively and in any dimension (Ganesh 2024, "Tight group-level DP
guarantees for DP-SGD with sampling via mixture of Gaussians mechanisms").
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from scipy.special import log_ndtr, logsumexp

from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun

# Mass further out than this (in standard deviations) is below e^-50.
_REACH = 9.85
_DROPPED = math.exp(-50)
# Bound on the rounding of a Fourier transform in delta, for each composed update. Compared with the
# same transforms in long double it was at most 2.4e-16 (107 random mechanisms, 10^2 to 2 10^6
# updates), of random sign.
_ROUNDING = 2.0**-50


def epsilon_of(
    phases: Sequence[MechanismRun], delta: float, rows_each: int, interval: float
) -> float:
    """Returns the smallest epsilon at `delta` of all phases, rounded up by the discretization.

    Doroshenko et al. 2022 (connect the dots), composition by FFT; its rounding errors are
    subtracted from delta.

    Args:
        phases: at least one with steps > 0; every noise multiplier > 0.
        delta: in (0, 1).
        rows_each: rows that appear or vanish together, >= 1.
        interval: step of the grid of privacy losses; a finer one is slower and tighter.

    Returns:
        Epsilon >= 0; infinite if rounding errors leave nothing of delta.
    """
    exact = delta - _ROUNDING * sum(phase.exposures for phase in phases)
    if exact <= 0:
        return math.inf
    return float(_composed(tuple(phases), rows_each, interval).get_epsilon_for_delta(exact))


@functools.lru_cache(maxsize=8)
def _composed(phases: tuple[MechanismRun, ...], rows_each: int, interval: float) -> Any:
    whole = None
    for phase in phases:
        if phase.exposures:
            part = _phase(phase, rows_each, interval)
            whole = part if whole is None else whole.compose(part)
    assert whole is not None
    return whole


@functools.lru_cache(maxsize=16)
def _phase(phase: MechanismRun, rows_each: int, interval: float) -> Any:
    noise, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
    if phase.mechanism.sampling != POISSON:
        # Once per pass; all rows of a person in the same batch is the worst case.
        noise = noise / (rows_each * math.sqrt(phase.exposures))
        return privacy_loss_distribution.from_gaussian_mechanism(
            noise, value_discretization_interval=interval
        )
    if rows_each == 1:
        once = privacy_loss_distribution.from_gaussian_mechanism(
            noise, value_discretization_interval=interval, sampling_prob=q
        )
    else:
        once = group_pld(rows_each, q, noise, interval)
    return once.self_compose(phase.exposures) if phase.exposures > 1 else once


def group_pld(rows_each: int, q: float, noise: float, interval: float) -> Any:
    """Returns the losses of one Poisson-sampled Gaussian update for `rows_each` rows together."""
    pmfs = []
    for removed in (True, False):
        smallest, largest = loss_range(rows_each, q, noise, removed)
        low, high = math.floor(smallest / interval), math.ceil(largest / interval)
        epsilons = np.arange(low, high + 1) * interval
        deltas = hockey_stick(epsilons, rows_each, q, noise, removed)
        pmfs.append(
            pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, low, high, deltas)
        )
    return privacy_loss_distribution.PrivacyLossDistribution(*pmfs)


def mixture_loss(
    x: np.ndarray, m: int, q: float, noise: float, dropped: float = _DROPPED
) -> np.ndarray:
    """Returns log of the mixture's density over N(0, z^2)'s, `[N]`: increasing and convex in x.

    Components whose weights sum to less than `dropped` are left out. They matter for high moments,
    so Renyi accounting keeps them.
    """
    return np.asarray(logsumexp(_exponents(x, m, q, noise, dropped), axis=-1))


def loss_range(m: int, q: float, noise: float, removed: bool) -> tuple[float, float]:
    """Returns the smallest and largest privacy loss, apart from a mass below e^-50."""
    last = len(_log_weights(m, q)) - 1
    ends = mixture_loss(np.array([-_REACH * noise, last + _REACH * noise]), m, q, noise)
    return (ends[0], ends[1]) if removed else (-ends[1], -ends[0])


def hockey_stick(epsilons: np.ndarray, m: int, q: float, noise: float, removed: bool) -> np.ndarray:
    """Returns delta at each epsilon, `[N]` in [0, 1], non-increasing.

    Args:
        epsilons: `[N]`, ascending, of either sign.
        m: rows of the person, >= 1.
        q: sampling probability, in (0, 1].
        noise: z > 0.
        removed: True from the mixture to the Gaussian (rows removed), False the other way round.
    """
    x = _where_loss_is(epsilons if removed else -epsilons, m, q, noise)
    sign = 1.0 if removed else -1.0
    log_weights = _log_weights(m, q)
    k = np.arange(len(log_weights))
    # Mass on the side of x where the loss is above epsilon.
    mixture = logsumexp(log_ndtr(sign * (k - x[:, None]) / noise) + log_weights, axis=-1)
    plain = log_ndtr(-sign * x / noise)
    upper, lower = (mixture, plain) if removed else (plain, mixture)
    with np.errstate(invalid="ignore"):
        deltas = np.exp(upper) * -np.expm1(np.minimum(epsilons + lower - upper, 0.0))
    # Dropped components count as lost; their absence below only raises delta.
    deltas = np.nan_to_num(deltas) + (_DROPPED if removed else 0.0)
    # Rounding errors go to the safe side.
    return np.clip(np.maximum.accumulate(deltas[::-1])[::-1], 0.0, 1.0)


def _exponents(
    x: np.ndarray, m: int, q: float, noise: float, dropped: float = _DROPPED
) -> np.ndarray:
    log_weights = _log_weights(m, q, dropped)
    k = np.arange(len(log_weights))
    return (2 * np.multiply.outer(x, k) - k**2) / (2 * noise**2) + log_weights


def _log_weights(m: int, q: float, dropped: float = _DROPPED) -> np.ndarray:
    """Returns log P(k) of Binomial(m, q) for k = 0, 1, ... up to a remaining mass of `dropped`."""
    if q == 1.0:
        return np.where(np.arange(m + 1) == m, 0.0, -np.inf)
    weights = np.array(
        [
            math.log(math.comb(m, k)) + k * math.log(q) + (m - k) * math.log1p(-q)
            for k in range(m + 1)
        ]
    )
    beyond = np.cumsum(np.exp(weights[::-1]))[::-1]
    return weights[beyond > dropped]


def _where_loss_is(values: np.ndarray, m: int, q: float, noise: float) -> np.ndarray:
    """Solves loss(x) = value by Newton's method; -inf if the loss is above it everywhere."""
    k = np.arange(len(_log_weights(m, q)))
    grid = np.linspace(-(_REACH + 1) * noise, k[-1] + (_REACH + 1) * noise, 20_001)
    x = np.interp(values, mixture_loss(grid, m, q, noise), grid)
    for _ in range(4):
        exponents = _exponents(x, m, q, noise)
        top = exponents.max(axis=-1)
        weights = np.exp(exponents - top[:, None])
        total = weights.sum(axis=-1)
        slope = (weights * k).sum(axis=-1) / total / noise**2
        gap = top + np.log(total) - values
        x = x - np.divide(gap, slope, out=np.zeros_like(x), where=slope > 0)
        x = np.clip(x, grid[0], grid[-1])
    # No such x for values up to log P(k = 0): every outcome has a larger loss.
    return np.where(values <= _log_weights(m, q)[0], -np.inf, x)
