"""One update repeated: bounds by SciPy's exact intervals, coverage, epsilon in closed form."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.dp_audit.faults import clipping_by_variable, clipping_off, halved_noise
from tf_mtl_privacy.evaluation.dp_audit.canaries import (
    epsilon_of_mu,
    gaussian_bound,
    repeat_one_update,
    runs_needed,
    shipped_optimizer,
)

NOISE, ERROR = 1.0, 0.01


def test_the_bound_from_scipy_s_exact_intervals():
    hits, alarms, runs, error = 173, 61, 250, 0.02
    # Two-sided at 1 - error has error / 2 on each side.
    true_low = stats.binomtest(hits, runs).proportion_ci(1 - error, "exact").low
    false_high = stats.binomtest(alarms, runs).proportion_ci(1 - error, "exact").high
    expected = stats.norm.ppf(true_low) - stats.norm.ppf(false_high)
    assert gaussian_bound(hits, alarms, runs, error) == pytest.approx(expected, rel=1e-9)
    assert gaussian_bound(10, 200, 250, error) == 0.0
    assert math.isfinite(gaussian_bound(250, 0, 250, error))
    assert gaussian_bound(0, 250, 250, error) == 0.0


def test_it_exceeds_the_truth_no_more_often_than_it_may():
    mu, runs, audits, rng = 0.8, 400, 4000, np.random.default_rng(3)
    hits = rng.binomial(runs, stats.norm.cdf(mu / 2), audits)
    alarms = rng.binomial(runs, stats.norm.cdf(-mu / 2), audits)
    found = np.array([gaussian_bound(h, a, runs, 0.05) for h, a in zip(hits, alarms, strict=True)])
    assert (found > mu).mean() <= 0.05
    assert np.median(found) > 0.5 * mu


@pytest.mark.parametrize("mu", [0.1, 0.5, 2.0])
def test_epsilon_of_mu_in_closed_form(mu):
    delta = 1e-5
    epsilon = epsilon_of_mu(mu, delta)
    # Balle and Wang 2018, theorem 8.
    reached = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(
        -mu / 2 - epsilon / mu
    )
    assert reached == pytest.approx(delta, rel=0.02)
    assert epsilon_of_mu(0.0, delta) == 0.0


def audited(seed: int = 0):
    return repeat_one_update(
        NOISE,
        0.5,
        1e-5,
        runs=runs_needed(NOISE, ERROR),
        error=ERROR,
        make_optimizer=shipped_optimizer,
        key=seed,
        seed=seed,
    )


def test_the_shipped_update_is_as_private_as_it_claims():
    found = audited()
    assert 0 < found.mu_lower <= found.mu_claimed == 1 / NOISE
    assert found.epsilon_lower <= found.epsilon_claimed < found.max_detectable
    # The rates of the best test of N(1, z^2) against N(0, z^2): exact intervals hold them.
    for rate, mean in ((found.true_positive_rate, 0.5), (found.false_positive_rate, -0.5)):
        hits = round(rate * found.runs)
        assert stats.binomtest(hits, found.runs, stats.norm.cdf(mean / NOISE)).pvalue > 1e-4


@pytest.mark.parametrize("fault", [halved_noise, clipping_off, clipping_by_variable])
def test_a_planted_fault_is_caught(fault):
    with fault():
        found = audited()
    assert found.mu_lower > found.mu_claimed
    assert found.epsilon_lower > found.epsilon_claimed


def test_half_the_noise_is_noticed_with_the_runs_that_are_needed():
    rng, z = np.random.default_rng(0), 8.0
    runs, mu, caught = runs_needed(z, ERROR), 2 / z, []
    for _ in range(200):
        hits = rng.binomial(runs, stats.norm.cdf(mu / 2))
        alarms = rng.binomial(runs, stats.norm.cdf(-mu / 2))
        caught.append(gaussian_bound(hits, alarms, runs, ERROR) > 1 / z)
    assert np.mean(caught) >= 0.93
