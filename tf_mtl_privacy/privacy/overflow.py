"""Chooses the overflow probability of Poisson batches, so that it never decides an epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tf_mtl_privacy.privacy.accounting import epsilon
from tf_mtl_privacy.privacy.accounting_events import Phase
from tf_mtl_privacy.privacy.calibration import renyi_calibrated

# Larger ones would save no places worth mentioning.
_LARGEST = 15
# Below 1e-300 a batch has a place for every row.
_SMALLEST = 300


def overflow_probability(
    phases: Sequence[Phase],
    delta: float,
    target_epsilon: float = 0.0,
    images_per_person: int = 1,
) -> float:
    """Returns a power of ten that takes less than a ten-thousandth of delta from any epsilon.

    (1 + e^epsilon) * steps * P(overflow) is part of delta. Places that are not filled cost nothing
    (batches are cut to their rows), so there is no reason to be sparing with them: the largest
    epsilon that will be asked for, by Renyi accounting, is taken three times. That covers the
    epsilon of replacing a row, which is asked for at delta / (1 + e^epsilon).

    Args:
        phases: the planned updates; their noise counts where there is no target.
        delta: of the claim.
        target_epsilon: what their noise will be calibrated to; 0 where it is given.
        images_per_person: a person's epsilon is stated too, if > 1.

    Returns:
        10^-k with k >= 15; 0 (a place for every row) below 1e-300.
    """
    planned = [phase for phase in phases if phase.steps]
    if not planned:
        return 10.0**-_LARGEST
    if target_epsilon:
        # Renyi accounting asks for more noise than PLD will, a third at most.
        planned = renyi_calibrated(planned, target_epsilon, delta, 0.75)
    people = max(images_per_person, 1)
    largest = epsilon(planned, delta, "rdp", images_per_person=people)
    steps = sum(phase.steps for phase in planned)
    log10 = (3 * largest + math.log(2e4 * steps / delta)) / math.log(10)
    return 10.0 ** -max(_LARGEST, math.ceil(log10)) if log10 < _SMALLEST else 0.0
