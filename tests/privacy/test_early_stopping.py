"""Choices of when to stop that a fixed plan covers, by exact enumeration of privacy losses.

The best strategy of an adversary takes the worst continuation for each loss observed first. No
accounting library and no code of the package is used.
"""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

STEP = 2e-3
TARGET = 1.0


class Losses:
    """Masses of privacy losses on the grid `STEP * (first + k)`, under the table with the row."""

    def __init__(self, first, masses):
        self.first, self.masses = first, masses

    @property
    def values(self):
        return STEP * (self.first + np.arange(len(self.masses)))

    def then(self, other):
        return Losses(self.first + other.first, np.convolve(self.masses, other.masses))

    def times(self, count):
        result = Losses(0, np.ones(1))
        for _ in range(count):
            result = result.then(self)
        return result

    def delta(self, epsilon=TARGET):
        """Hockey-stick divergence at epsilon, a number or an array."""
        above = np.searchsorted(self.values, epsilon, side="right")
        # Sums over the values from each one upwards, from the smallest masses on.
        ends = [
            np.append(np.cumsum(part[::-1])[::-1], 0.0)
            for part in (self.masses, self.masses * np.exp(-self.values))
        ]
        return ends[0][above] - np.exp(epsilon) * ends[1][above]


def update(q, z):
    """A Poisson-sampled Gaussian update, row removed; its losses rounded to the grid."""
    x = np.linspace(-9 * z, 9 * z + 1, 200_001)
    ratio = np.exp((2 * x - 1) / (2 * z**2))
    masses = norm.pdf(x, scale=z) * (1 - q + q * ratio) * (x[1] - x[0])
    place = np.round(np.log1p(q * (ratio - 1)) / STEP).astype(int)
    result = np.bincount(place - place.min(), masses)
    kept = np.flatnonzero(result > 1e-13)
    return Losses(place.min() + kept[0], result[kept[0] : kept[-1] + 1])


def chosen_by_outcome(seen, continuations):
    """Returns delta of an adversary who observes a loss, then takes its worst continuation."""
    return float(
        seen.masses @ np.max([one.delta(TARGET - seen.values) for one in continuations], axis=0)
    )


RARE, OFTEN = update(0.05, 0.8), update(0.5, 3.0)


@pytest.mark.parametrize("seen", [1, 4, 7])
def test_phase_that_ends_at_any_moment_is_within_its_plan(seen):
    # 8 updates of one kind and then 6 of another; after some of the first it may go on, or end.
    plan = RARE.times(8).then(OFTEN.times(6)).delta()
    ends = [RARE.times(more).then(OFTEN.times(6)) for more in range(9 - seen)]
    assert chosen_by_outcome(RARE.times(seen), ends) <= plan * (1 + 1e-9)
    # The order of kinds may depend on outcomes as well: a plan fixes how many of each there are.
    either = [OFTEN.then(RARE.times(8 - seen)).then(OFTEN.times(5)), *ends]
    assert chosen_by_outcome(RARE.times(seen), either) <= plan * (1 + 1e-9)


def test_outcome_dependent_choice_may_cost_more_than_either_end():
    # After one update of a kind: go on with that kind, or with another, whose noise is such that
    # both ways have the same delta. A budget by PLD allows both, and the choice exceeds it.
    seen, more = RARE.times(3), RARE.times(5)
    budget = seen.then(more).delta()

    def excess(z):
        return seen.then(update(1.0, z)).delta() - budget

    z = brentq(excess, 1.0, 20.0, xtol=1e-3)
    other = update(1.0, z)
    larger = max(budget, seen.then(other).delta())
    assert larger == pytest.approx(budget, rel=0.02)
    assert chosen_by_outcome(seen, [more, other]) > 1.05 * larger
    # Only a plan with as many updates of each kind as any end may take covers it.
    assert chosen_by_outcome(seen, [more, other]) <= seen.then(more).then(other).delta()


def test_grid_of_losses_equals_the_closed_form():
    # One update on the whole batch: Balle and Wang 2018.
    mu = 1 / 1.5
    exact = norm.cdf(mu / 2 - TARGET / mu) - math.exp(TARGET) * norm.cdf(-mu / 2 - TARGET / mu)
    assert update(1.0, 1.5).delta() == pytest.approx(exact, rel=1e-4)
