"""The bound on epsilon from guesses, against closed forms and linear programming."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

from tf_mtl_privacy.evaluation.dp_audit.bound import (
    Guesses,
    count_correct,
    epsilon_lower_bound,
    evidence,
    p_value,
    plan_guesses,
    simulated_scores,
)
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian


def exact_tail(n: int, at_least: int, q: Fraction) -> Fraction:
    """P[Binomial(n, q) >= at_least] in whole numbers."""
    ks = range(max(at_least, 0), n + 1)
    return sum((math.comb(n, k) * q**k * (1 - q) ** (n - k) for k in ks), Fraction(0))


def test_epsilon_lower_bound_equals_the_paper_s_example():
    # Appendix D: 75 of 100 guesses right, 1,000 canaries, delta 1e-4: epsilon >= 0.673 at 95 %.
    assert epsilon_lower_bound(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=1e-3)


@pytest.mark.parametrize(
    "m, r, v, delta",
    [(30, 12, 11, 0.0), (30, 12, 11, 0.002), (40, 40, 33, 0.005), (25, 8, 8, 0.01)],
)
def test_p_value_equals_linear_programming(m, r, v, delta):
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
def test_p_value_is_not_below_a_real_mechanism(m, delta):
    # Each coin is told as it is with probability delta, else by randomised response.
    for epsilon in (0.0, 0.5, 2.0):
        right = Fraction(delta) + (1 - Fraction(delta)) / (1 + Fraction(math.exp(-epsilon)))
        for v in range(m + 1):
            reached = float(exact_tail(m, v, right))
            assert p_value(m, m, v, epsilon, delta) >= reached * (1 - 1e-9)


@pytest.mark.parametrize("epsilon, delta", [(0.5, 0.0), (2.0, 0.0), (1.0, 1e-5)])
def test_epsilon_lower_bound_of_randomised_response_is_near_its_epsilon(epsilon, delta):
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


def test_epsilon_lower_bound_of_all_correct_equals_the_closed_form():
    low = 0.05 ** (1 / 200)
    assert epsilon_lower_bound(500, 200, 200) == pytest.approx(math.log(low / (1 - low)), abs=2e-4)


def test_epsilon_lower_bound_falls_with_delta_and_confidence():
    bounds = [epsilon_lower_bound(10_000, 500, 460, delta) for delta in (0, 1e-6, 1e-5, 1e-4)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]
    assert epsilon_lower_bound(10_000, 500, 460, confidence=0.99) < bounds[0]
    assert epsilon_lower_bound(100, 50, 25) == 0.0 and epsilon_lower_bound(100, 50, 0) == 0.0


def test_p_value_rises_with_epsilon():
    for v in (40, 45, 50):
        values = [p_value(1000, 50, v, e, 1e-4) for e in np.linspace(0, 6, 61)]
        small = [value for value in values if value <= 0.3]
        assert small == sorted(small) and len(small) > 3


@pytest.mark.parametrize(
    "numbers", [(10, 11, 5, 1.0, 0.0), (10, 5, 6, 1.0, 0.0), (10, 5, 5, -1.0, 0.0)]
)
def test_p_value_with_numbers_out_of_range_is_refused(numbers):
    with pytest.raises(ValueError, match="Expected"):
        p_value(*numbers)
    with pytest.raises(ValueError, match="confidence"):
        epsilon_lower_bound(10, 5, 5, confidence=1.0)


@pytest.mark.parametrize("z, q", [(1.0, 1.0), (2.5, 0.05), (0.3, 0.5)])
def test_evidence_equals_the_log_likelihood_ratio(z, q):
    x = np.linspace(-3, 4, 29)
    inside = (1 - q) * stats.norm.pdf(x, 0, z) + q * stats.norm.pdf(x, 1, z)
    expected = np.log(inside / stats.norm.pdf(x, 0, z))
    np.testing.assert_allclose(evidence(x, z, q), expected, atol=1e-12)


def test_count_correct_equals_hand_calculation():
    scores = np.array([0.1, 5.0, -2.0, 3.0, 0.0])
    included = np.array([False, True, True, False, False])
    # Highest two: rows 1 (in, right) and 3 (out, wrong); lowest: row 2 (in, wrong).
    assert count_correct(scores, included, Guesses(2, 1)) == 1
    assert count_correct(scores, included, Guesses(0, 2)) == 1
    assert count_correct(scores, included, Guesses(1, 0)) == 1
    assert count_correct(scores, included, Guesses(0, 0)) == 0


def test_plan_guesses_predicts_the_bound_of_other_draws():
    phases = [MechanismRun(SampledGaussian(2.0, 0.05), 100)]
    guesses, promised = plan_guesses(phases, 20_000, 1e-5, 0.95, seed=0)
    assert plan_guesses(phases, 20_000, 1e-5, 0.95, seed=0) == (guesses, promised)
    found = []
    for seed in range(1, 6):
        scores, included = simulated_scores(phases, 20_000, 0.5, seed)
        right = count_correct(scores, included, guesses)
        found.append(epsilon_lower_bound(20_000, guesses.total, right, 1e-5))
    # Hopeful by what choosing the largest of many adds, and no more than that.
    assert 0.7 * promised < np.mean(found) < 1.1 * promised


def test_plan_guesses_with_few_canaries_has_guesses():
    guesses, promised = plan_guesses(
        [MechanismRun(SampledGaussian(2.0, 1.0), 1)], 4, 1e-5, 0.95, seed=0
    )
    assert 0 < guesses.total <= 4 and promised == 0.0


def test_simulated_scores_of_shuffled_epochs_count_once_an_epoch():
    phase = MechanismRun(SampledGaussian(1e-3, 0.25, SHUFFLED_EPOCHS), 8)
    scores, included = simulated_scores([phase], 4_000, 0.0, 0)
    # Without noise twice log(p1/p0) = +-1/(2 z^2), for two epochs.
    np.testing.assert_allclose(scores, np.where(included, 1, -1) * 2 / (2 * 1e-6), rtol=1e-6)
