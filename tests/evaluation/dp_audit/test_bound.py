"""The bound of Steinke, Nasr and Jagielski: printed values, enumeration, simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

from tf_mtl_privacy.evaluation.dp_audit.bound import epsilon_lower_bound, p_value


def exact_tail(n: int, at_least: int, q: Fraction) -> Fraction:
    """P[Binomial(n, q) >= at_least] in whole numbers."""
    ks = range(max(at_least, 0), n + 1)
    return sum((math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in ks), Fraction(0))


def test_the_example_that_the_paper_prints():
    # Appendix D: 75 of 100 guesses right, 1,000 canaries, delta 1e-4: epsilon >= 0.673 at 95 %.
    assert epsilon_lower_bound(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=1e-3)


@pytest.mark.parametrize(
    "m, r, v, delta",
    [(30, 12, 11, 0.0), (30, 12, 11, 0.002), (40, 40, 33, 0.005), (25, 8, 8, 0.01)],
)
def test_agrees_with_the_worst_free_guesses_found_by_linear_programming(m, r, v, delta):
    epsilon = math.log(2)  # q = 2/3
    tails = [float(exact_tail(r, v - free, Fraction(2, 3))) for free in range(m + 1)]
    # Any distribution of F on 0..m with mean at most 2 m delta: the most that it can reach.
    found = optimize.linprog(
        -np.array(tails),
        A_ub=[np.arange(m + 1)],
        b_ub=[2 * m * delta],
        A_eq=[np.ones(m + 1)],
        b_eq=[1.0],
    )
    assert p_value(m, r, v, epsilon, delta) == pytest.approx(-found.fun, rel=1e-6)


@pytest.mark.parametrize("delta", [0.0, 0.001, 0.02])
@pytest.mark.parametrize("m", [1, 4, 9])
def test_never_below_what_a_mechanism_with_that_epsilon_reaches(m, delta):
    # Each coin is told as it is with probability delta, else by randomised response.
    for epsilon in (0.0, 0.5, 2.0):
        right = Fraction(delta) + (1 - Fraction(delta)) / (1 + Fraction(math.exp(-epsilon)))
        for v in range(m + 1):
            reached = float(exact_tail(m, v, right))
            assert p_value(m, m, v, epsilon, delta) >= reached * (1 - 1e-9)


@pytest.mark.parametrize("epsilon, delta", [(0.5, 0.0), (2.0, 0.0), (1.0, 1e-5)])
def test_randomised_response_is_bounded_below_its_epsilon_and_near_it(epsilon, delta):
    m, audits, rng = 4000, 3000, np.random.default_rng(7)
    right = delta + (1 - delta) / (1 + math.exp(-epsilon))
    counts = rng.binomial(m, right, audits)
    bounds = {v: epsilon_lower_bound(m, m, int(v), delta) for v in np.unique(counts)}
    found = np.array([bounds[v] for v in counts])
    # At most 5 % above the truth: a binomial test that a right bound fails once in 1,000 times.
    above = int((found > epsilon).sum())
    assert stats.binom.sf(above - 1, audits, 0.05) > 1e-3
    assert np.median(found) > epsilon - 0.15
    # Without its delta's share the bound is no weaker than the exact binomial test allows.
    if not delta:
        assert above > 0.02 * audits


def test_all_right_in_closed_form():
    low = 0.05 ** (1 / 200)
    assert epsilon_lower_bound(500, 200, 200) == pytest.approx(math.log(low / (1 - low)), abs=2e-4)


def test_delta_and_confidence_only_lower_it():
    bounds = [epsilon_lower_bound(10_000, 500, 460, delta) for delta in (0, 1e-6, 1e-5, 1e-4)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]
    assert epsilon_lower_bound(10_000, 500, 460, confidence=0.99) < bounds[0]
    assert epsilon_lower_bound(100, 50, 25) == 0.0 and epsilon_lower_bound(100, 50, 0) == 0.0


def test_the_p_value_rises_with_epsilon():
    for v in (40, 45, 50):
        values = [p_value(1000, 50, v, e, 1e-4) for e in np.linspace(0, 6, 61)]
        small = [value for value in values if value <= 0.3]
        assert small == sorted(small) and len(small) > 3


@pytest.mark.parametrize(
    "numbers", [(10, 11, 5, 1.0, 0.0), (10, 5, 6, 1.0, 0.0), (10, 5, 5, -1.0, 0.0)]
)
def test_numbers_out_of_range(numbers):
    with pytest.raises(ValueError, match="Expected"):
        p_value(*numbers)
    with pytest.raises(ValueError, match="confidence"):
        epsilon_lower_bound(10, 5, 5, confidence=1.0)
