"""Noise for a given epsilon, by dp-accounting. No TensorFlow."""

from __future__ import annotations

import dp_accounting
from dp_accounting import rdp

from tf_mtl_privacy.errors import UsageError


def noise_for_epsilon(
    target_epsilon: float, delta: float, sampling_probability: float, steps: int
) -> float:
    """The smallest noise multiplier with which DP-SGD stays within (epsilon, delta).

    Args:
        target_epsilon: > 0.
        delta: in (0, 1).
        sampling_probability: each row's chance to be in a step's batch (Poisson), in (0, 1].
        steps: number of updates, >= 1.

    Returns:
        Noise standard deviation over clip norm, to within 1e-3, by Renyi accounting (Mironov et
        al. 2019), rounded to the safe side.

    Raises:
        UsageError: no noise up to 10,000 is enough.
    """

    def event(noise: float) -> dp_accounting.DpEvent:
        step = dp_accounting.GaussianDpEvent(noise)
        sampled = dp_accounting.PoissonSampledDpEvent(sampling_probability, step)
        return dp_accounting.SelfComposedDpEvent(sampled, steps)

    try:
        noise = dp_accounting.calibrate_dp_mechanism(
            rdp.RdpAccountant,
            event,
            target_epsilon,
            delta,
            dp_accounting.LowerEndpointAndGuess(0.0, 2.0),
            tol=1e-3,
        )
    except dp_accounting.NoBracketIntervalFoundError as error:
        raise UsageError(
            f"target_epsilon={target_epsilon} at delta={delta}: no noise reaches it in {steps} "
            f"steps at sampling probability {sampling_probability:.4g}; train for fewer epochs"
        ) from error
    return float(noise)
