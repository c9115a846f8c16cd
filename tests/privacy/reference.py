"""Epsilon by dp-accounting alone, for tests: none of our own accounting in between."""

import dp_accounting
from dp_accounting import pld


def reference_epsilon(parts, delta, interval=1e-4):
    """Of `(noise_multiplier, sampling_probability, steps)` parts composed, by PLD.

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
