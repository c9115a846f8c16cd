"""Epsilon by dp-accounting alone, for tests; independent of the package's accounting."""

import dp_accounting
from dp_accounting import pld


def reference_epsilon(parts, delta, interval=1e-4):
    """Returns epsilon by PLD of `(noise_multiplier, sampling_probability, steps)` parts composed.

    A sampling probability of 1 is a Gaussian mechanism on all rows. A coarser interval (of the
    losses' grid) is faster, and off by about a tenth of it here.
    """
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    for noise, q, steps in parts:
        event = dp_accounting.GaussianDpEvent(noise)
        if q < 1:
            event = dp_accounting.PoissonSampledDpEvent(q, event)
        if steps:
            accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    return accountant.get_epsilon(delta)
