"""Renyi differential privacy of phases by dp-accounting, for a row and for a person's rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting import rdp
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from scipy.special import logsumexp

from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun
from tf_mtl_privacy.privacy.accounting.pld import mixture_loss

_STEPS_PER_DEVIATION = 32
_MAX_POINTS = 400_000


def epsilon_of(phases: Sequence[MechanismRun], delta: float, rows_each: int) -> float:
    """Returns the smallest epsilon at `delta` of all phases together.

    Mironov et al. 2019 for the sampled Gaussian, Canonne et al. 2020 (proposition 12) for the
    conversion to (epsilon, delta).

    Args:
        phases: at least one with steps > 0; every noise multiplier > 0.
        delta: in (0, 1).
        rows_each: rows that appear or vanish together, >= 1.
    """
    total = sum(_once(phase, rows_each) * phase.exposures for phase in phases if phase.exposures)
    return float(compute_epsilon(_orders(), total, delta)[0])


@functools.cache
def _orders() -> np.ndarray:
    return np.asarray(rdp.RdpAccountant().orders, np.float64)


def _once(phase: MechanismRun, rows_each: int) -> np.ndarray:
    mechanism = phase.mechanism
    if mechanism.sampling != POISSON:
        return _sampled_gaussian(1.0, mechanism.noise_multiplier / rows_each)
    q, noise = mechanism.sampling_probability, mechanism.noise_multiplier
    if rows_each == 1 or q == 1:
        return _sampled_gaussian(q, noise / rows_each)
    return np.minimum(_group_bound(q, noise, rows_each), _group_integral(q, noise, rows_each))


@functools.lru_cache(maxsize=256)
def _sampled_gaussian(q: float, noise: float) -> np.ndarray:
    """Returns `[orders]` Renyi divergences of one update."""
    event = dp_accounting.GaussianDpEvent(noise)
    accountant = rdp.RdpAccountant()
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, event) if q < 1 else event)
    return np.asarray(accountant.rdp, np.float64)


def _group_bound(q: float, noise: float, rows_each: int) -> np.ndarray:
    """Returns `[orders]` upper bounds for m rows that appear or vanish together.

    At least one of them is in the batch with probability 1 - (1-q)^m, and they move the sum by at
    most m clip norms: the mixture's weight on 1..m moves to m (see `pld`).
    """
    return _sampled_gaussian(-math.expm1(rows_each * math.log1p(-q)), noise / rows_each)


@functools.lru_cache(maxsize=64)
def _group_integral(q: float, noise: float, rows_each: int) -> np.ndarray:
    """Returns `[orders]` Renyi divergences of `pld`'s mixture of Gaussians, both directions.

    By the trapezoidal rule, whose error decreases exponentially once the integrand is resolved.
    Infinite at orders whose integrand is beyond the grid or too narrow for it.
    """
    step = noise / _STEPS_PER_DEVIATION
    ends = min(512 * rows_each + 12 * noise, _MAX_POINTS / 2 * step)
    x = np.arange(-ends, ends + step, step)
    loss = mixture_loss(x, rows_each, q, noise, dropped=0.0)
    log_density = -0.5 * (x / noise) ** 2 + math.log(step / noise / math.sqrt(2 * math.pi))
    spread = rows_each * (q * (1 - q) if q < 0.5 else 0.25)
    divergences = []
    for order in _orders():
        # The exponent's curvature is at most (order - 1) Var[k] / z^4 + 1 / z^2.
        width = noise / math.sqrt(1 + (order - 1) * spread / noise**2)
        if order * rows_each + 12 * noise > ends or width < 1.2 * step:
            divergences.append(math.inf)
            continue
        moment = max(
            logsumexp(log_density + order * loss), logsumexp(log_density - (order - 1) * loss)
        )
        # Rounded up by more than the rule's error.
        divergences.append(moment / (order - 1) * (1 + 1e-6) + 1e-12)
    return np.asarray(divergences)
