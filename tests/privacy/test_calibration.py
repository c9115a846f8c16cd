import math

import dp_accounting
import pytest
from dp_accounting import pld
from scipy.optimize import brentq
from scipy.stats import norm

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.calibration import calibrated, max_steps, noise_for_epsilon
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian

DELTA = 1e-5


@pytest.mark.parametrize("target", [0.5, 2.0])
def test_the_noise_reaches_the_target_by_an_independent_accountant(target):
    q, steps = 128 / 8000, 600
    noise = noise_for_epsilon(target, DELTA, q, steps)
    accountant = pld.PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    assert 0.99 * target < accountant.get_epsilon(DELTA) <= target


@pytest.mark.parametrize("target", [0.01, 0.03, 0.1, 0.5, 2.0, 10.0, 50.0])
@pytest.mark.parametrize(("q", "steps"), [(0.016, 600), (1.0, 5)])
def test_the_noise_is_at_most_a_thousandth_more_than_needed(target, q, steps):
    noise = noise_for_epsilon(target, DELTA, q, steps)
    # A ten-thousandth of epsilon, and no more than a thousandth.
    grid = 1e-4 * min(target, 10)
    assert reference_epsilon([(noise, q, steps)], DELTA, grid) <= target
    assert reference_epsilon([(noise / 1.001, q, steps)], DELTA, grid) > target


@pytest.mark.parametrize("target", [0.01, 2.0])
def test_noise_of_whole_batches_is_that_of_the_closed_form(target):
    # Balle and Wang 2018, theorem 8, for mu = sqrt(100) / noise.
    noise = noise_for_epsilon(target, DELTA, 1.0, 100)

    def delta_of(mu):
        upper, lower = norm.cdf(mu / 2 - target / mu), norm.cdf(-mu / 2 - target / mu)
        return upper - math.exp(target) * lower

    exact = 10 / brentq(lambda mu: delta_of(mu) - DELTA, 1e-5, 10)
    assert exact <= noise <= 1.001 * exact


def test_a_smaller_epsilon_or_more_steps_or_overflow_take_more_noise():
    def noise(target, steps, overflow=0.0):
        return noise_for_epsilon(
            target, DELTA, 0.01, steps, overflow_probability=overflow, accountant="rdp"
        )

    base = noise(1.0, 500)
    assert noise(0.5, 500) > base
    assert noise(1.0, 2000) > base
    assert noise(1.0, 500, overflow=2e-9) > base
    # Renyi accounting is looser, so it asks for more.
    assert noise_for_epsilon(1.0, DELTA, 0.01, 500) < base


def test_a_whole_run_meets_one_target():
    phases = [
        MechanismRun(SampledGaussian(1.0, 0.016), 600),
        MechanismRun(SampledGaussian(3.0, 0.02), 900),
    ]
    found = calibrated(phases, 1.0, DELTA)
    assert 0.99 < epsilon(found, DELTA) <= 1.0
    noise = [phase.mechanism.noise_multiplier for phase in found]
    assert noise[1] == pytest.approx(3 * noise[0])
    assert [phase.steps for phase in found] == [600, 900]


def test_shuffled_epochs_are_calibrated_too():
    phase = MechanismRun(SampledGaussian(1.0, 0.1, SHUFFLED_EPOCHS), 40)
    found = calibrated([phase], 1.0, DELTA)
    assert 0.99 < epsilon(found, DELTA) <= 1.0


@pytest.mark.parametrize("target", [0.3, 6.0, 60.0])
def test_training_stops_at_the_last_step_within_the_budget(target):
    mechanism = SampledGaussian(1.1, 0.02)
    most = max_steps(mechanism, target, DELTA)
    if target < 0.5:
        # A single step costs more than that.
        assert most == 0 and epsilon([MechanismRun(mechanism, 1)], DELTA) > target
        return
    assert epsilon([MechanismRun(mechanism, most)], DELTA) <= target
    assert epsilon([MechanismRun(mechanism, round(most * 1.01) + 1)], DELTA) > target
    assert max_steps(mechanism, target, DELTA, guess=most) == most


def test_calibrated_noise_affords_the_planned_steps():
    noise = noise_for_epsilon(0.5, DELTA, 0.016, 600)
    most = max_steps(SampledGaussian(noise, 0.016), 0.5, DELTA, guess=600)
    assert 600 <= most <= 605


def test_what_ran_before_leaves_fewer_steps():
    mechanism, before = SampledGaussian(3.0, 0.02), [MechanismRun(SampledGaussian(4.0, 0.02), 900)]
    most, left = (max_steps(mechanism, 1.0, DELTA, before=ran) for ran in ([], before))
    assert 0 < left < most
    assert epsilon([*before, MechanismRun(mechanism, left)], DELTA) <= 1.0
    assert max_steps(mechanism, 0.01, DELTA, before=before) == 0


def test_impossible_targets_are_refused():
    # 1,000 steps that each lose a row with probability 1e-8 leave nothing of delta.
    with pytest.raises(UsageError, match="no noise reaches it in 1000 steps: a batch is too full"):
        noise_for_epsilon(1.0, DELTA, 0.1, 1000, overflow_probability=1e-8)
    with pytest.raises(UsageError, match="in 100000 steps, up to a noise multiplier of 10,000"):
        noise_for_epsilon(0.01, DELTA, 1.0, 100_000)
    with pytest.raises(UsageError, match="expected > 0"):
        noise_for_epsilon(0.0, DELTA, 0.1, 10)
    with pytest.raises(UsageError, match="at least one"):
        noise_for_epsilon(1.0, DELTA, 0.1, 0)
