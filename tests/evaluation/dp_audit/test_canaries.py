"""Canary experiments on the shipped update and with planted faults."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.dp_audit.faults import clipping_by_variable, clipping_off, halved_noise
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit.bound import evidence
from tf_mtl_privacy.evaluation.dp_audit.canaries import (
    STRENGTH,
    epsilon_of_mu,
    gaussian_bound,
    repeat_one_update,
    runs_needed,
    scores_of_one_run,
    shipped_optimizer,
    whole_square,
)
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.keys import key_for_tests

COUNT, CLIP = 40**2, 0.3


def coins(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(COUNT) < 0.5


def projections(phase: MechanismRun, included: np.ndarray, **options) -> np.ndarray:
    """Sums over all updates, read back from the scores of unsampled updates."""
    z = phase.mechanism.noise_multiplier
    scores = scores_of_one_run(
        [phase],
        included,
        l2_norm_clip=CLIP,
        make_optimizer=shipped_optimizer,
        key=key_for_tests(1),
        **options,
    )
    return scores * z**2 + phase.exposures / 2


def test_one_run_without_noise_reads_one_for_each_included_canary():
    phase, included = MechanismRun(SampledGaussian(2.0, 1.0), 3), coins()
    found = projections(phase, included, noise_factor=0.0)
    np.testing.assert_allclose(found, 3.0 * included, atol=1e-5)


def test_one_run_without_clipping_reads_the_whole_gradient():
    with clipping_off():
        found = projections(MechanismRun(SampledGaussian(2.0, 1.0), 1), coins(), noise_factor=0.0)
    np.testing.assert_allclose(found, STRENGTH * coins(), atol=1e-4)


@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_one_run_noise_has_the_claimed_deviation(clipping):
    z, steps, included = 2.0, 4, coins()
    phase = MechanismRun(SampledGaussian(z, 1.0), steps)
    if clipping == "vectorized":
        included = included[: 10**2]
    found = projections(phase, included, clipping=clipping)
    standard = (found - steps * included) / (z * np.sqrt(steps))
    assert stats.kstest(standard, "norm").pvalue > 1e-4
    tail = stats.chi2.cdf((standard**2).sum(), len(standard))
    assert 1e-4 < tail < 1 - 1e-4


def test_one_run_of_shuffled_epochs_reads_each_canary_once_an_epoch():
    phase = MechanismRun(SampledGaussian(2.0, 0.2, SHUFFLED_EPOCHS), 10)
    found = projections(phase, coins(), noise_factor=0.0)
    np.testing.assert_allclose(found, 2.0 * coins(), atol=1e-5)


def test_one_run_poisson_batches_have_the_claimed_probability():
    z, q, steps, included = 2.0, 0.3, 40, coins()
    scores = scores_of_one_run(
        [MechanismRun(SampledGaussian(z, q), steps)],
        included,
        l2_norm_clip=CLIP,
        noise_factor=0.0,
        make_optimizer=shipped_optimizer,
        key=key_for_tests(2),
    )
    there, away = evidence(np.array([1.0, 0.0]), z, q)
    draws = (scores - steps * away) / (there - away)
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-3)
    assert np.abs(draws[~included]).max() < 1e-3
    total = round(draws.sum())
    assert stats.binomtest(total, steps * int(included.sum()), q).pvalue > 1e-4


def test_one_run_with_negative_noise_is_refused():
    with pytest.raises(UsageError, match="noise_multiplier"):
        projections(MechanismRun(SampledGaussian(2.0, 1.0), 1), coins(), noise_factor=-1.0)


def test_whole_square_is_the_largest_square_below():
    assert [whole_square(n) for n in (4, 8, 9, 10_000, 10_200)] == [4, 4, 9, 10_000, 10_000]


NOISE, ERROR = 1.0, 0.01


def test_gaussian_bound_equals_exact_intervals():
    hits, alarms, runs, error = 173, 61, 250, 0.02
    # Two-sided at 1 - error has error / 2 on each side.
    true_low = stats.binomtest(hits, runs).proportion_ci(1 - error, "exact").low
    false_high = stats.binomtest(alarms, runs).proportion_ci(1 - error, "exact").high
    expected = stats.norm.ppf(true_low) - stats.norm.ppf(false_high)
    assert gaussian_bound(hits, alarms, runs, error) == pytest.approx(expected, rel=1e-9)
    assert gaussian_bound(10, 200, 250, error) == 0.0
    assert math.isfinite(gaussian_bound(250, 0, 250, error))
    assert gaussian_bound(0, 250, 250, error) == 0.0


def test_gaussian_bound_seldom_exceeds_the_truth():
    mu, runs, audits, rng = 0.8, 400, 4000, np.random.default_rng(3)
    hits = rng.binomial(runs, stats.norm.cdf(mu / 2), audits)
    alarms = rng.binomial(runs, stats.norm.cdf(-mu / 2), audits)
    found = np.array([gaussian_bound(h, a, runs, 0.05) for h, a in zip(hits, alarms, strict=True)])
    assert (found > mu).mean() <= 0.05
    assert np.median(found) > 0.5 * mu


@pytest.mark.parametrize("mu", [0.1, 0.5, 2.0])
def test_epsilon_of_mu_equals_the_closed_form(mu):
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


def test_repeat_one_update_of_the_shipped_code_holds():
    found = audited()
    assert 0 < found.mu_lower <= found.mu_claimed == 1 / NOISE
    assert found.epsilon_lower <= found.epsilon_claimed < found.max_detectable
    # The rates of the best test of N(1, z^2) against N(0, z^2): exact intervals hold them.
    for rate, mean in ((found.true_positive_rate, 0.5), (found.false_positive_rate, -0.5)):
        hits = round(rate * found.runs)
        assert stats.binomtest(hits, found.runs, stats.norm.cdf(mean / NOISE)).pvalue > 1e-4


@pytest.mark.parametrize("fault", [halved_noise, clipping_off, clipping_by_variable])
def test_repeat_one_update_with_a_planted_fault_is_contradicted(fault):
    with fault():
        found = audited()
    assert found.mu_lower > found.mu_claimed
    assert found.epsilon_lower > found.epsilon_claimed


def test_repeat_one_update_detects_half_the_noise_with_runs_needed():
    rng, z = np.random.default_rng(0), 8.0
    runs, mu, caught = runs_needed(z, ERROR), 2 / z, []
    for _ in range(200):
        hits = rng.binomial(runs, stats.norm.cdf(mu / 2))
        alarms = rng.binomial(runs, stats.norm.cdf(-mu / 2))
        caught.append(gaussian_bound(hits, alarms, runs, ERROR) > 1 / z)
    assert np.mean(caught) >= 0.93
