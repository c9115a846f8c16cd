"""Privacy loss distributions of phases, by dp-accounting, for a row and for a person's rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from dp_accounting.pld import pld_pmf, privacy_loss_distribution

from tf_mtl_privacy.privacy.accounting_events import POISSON, Phase
from tf_mtl_privacy.privacy.gaussian_mixture import hockey_stick, loss_range

# What rounding in a Fourier transform may take off delta, for each composed update. Against the
# same transforms in long double it was at most 2.4e-16 (107 random mechanisms, 10^2 to 2 10^6
# updates); the sign is random.
_ROUNDING = 2.0**-50


def epsilon_of(phases: Sequence[Phase], delta: float, rows_each: int, interval: float) -> float:
    """The smallest epsilon at `delta` of all phases together, rounded up by the discretization.

    Doroshenko et al. 2022 (connect the dots), composition by FFT, whose rounding errors are taken
    off delta.

    Args:
        phases: at least one with steps > 0; every noise multiplier > 0.
        delta: in (0, 1).
        rows_each: rows that appear or vanish together, >= 1.
        interval: step of the grid of privacy losses; a finer one is slower and tighter.

    Returns:
        Epsilon >= 0; infinite where rounding errors leave nothing of delta.
    """
    exact = delta - _ROUNDING * sum(phase.exposures for phase in phases)
    if exact <= 0:
        return math.inf
    return float(_composed(tuple(phases), rows_each, interval).get_epsilon_for_delta(exact))


@functools.lru_cache(maxsize=8)
def _composed(phases: tuple[Phase, ...], rows_each: int, interval: float) -> Any:
    whole = None
    for phase in phases:
        if phase.exposures:
            part = _phase(phase, rows_each, interval)
            whole = part if whole is None else whole.compose(part)
    assert whole is not None
    return whole


@functools.lru_cache(maxsize=16)
def _phase(phase: Phase, rows_each: int, interval: float) -> Any:
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
    """One Poisson-sampled Gaussian update, where `rows_each` rows appear or vanish together.

    The pair of distributions that dominates it is in gaussian_mixture.py.
    """
    pmfs = []
    for removed in (True, False):
        least, most = loss_range(rows_each, q, noise, removed)
        low, high = math.floor(least / interval), math.ceil(most / interval)
        epsilons = np.arange(low, high + 1) * interval
        deltas = hockey_stick(epsilons, rows_each, q, noise, removed)
        pmfs.append(
            pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, low, high, deltas)
        )
    return privacy_loss_distribution.PrivacyLossDistribution(*pmfs)
