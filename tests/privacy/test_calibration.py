"""Noise and numbers of steps for a target epsilon, compared with dp-accounting."""

import math

import dp_accounting
import pytest
from dp_accounting import pld
from scipy.optimize import brentq
from scipy.stats import norm

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.calibration import (
    affordable_together,
    calibrated,
    largest,
    max_steps,
    noise_for_epsilon,
)
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.ledger import VERSION, LedgerHeader, LedgerState

DELTA = 1e-5


@pytest.mark.parametrize("target", [0.5, 2.0])
def test_noise_for_epsilon_meets_the_target_by_an_independent_accountant(target):
    q, steps = 128 / 8000, 600
    noise = noise_for_epsilon(target, DELTA, q, steps)
    accountant = pld.PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    assert 0.99 * target < accountant.get_epsilon(DELTA) <= target


@pytest.mark.parametrize("target", [0.01, 0.03, 0.1, 0.5, 2.0, 10.0, 50.0])
@pytest.mark.parametrize(("q", "steps"), [(0.016, 600), (1.0, 5)])
def test_noise_for_epsilon_is_at_most_a_thousandth_too_large(target, q, steps):
    noise = noise_for_epsilon(target, DELTA, q, steps)
    # A ten-thousandth of epsilon, and no more than a thousandth.
    grid = 1e-4 * min(target, 10)
    assert reference_epsilon([(noise, q, steps)], DELTA, grid) <= target
    assert reference_epsilon([(noise / 1.001, q, steps)], DELTA, grid) > target


@pytest.mark.parametrize("target", [0.01, 2.0])
def test_noise_for_epsilon_of_full_batches_equals_the_closed_form(target):
    # Balle and Wang 2018, theorem 8, for mu = sqrt(100) / noise.
    noise = noise_for_epsilon(target, DELTA, 1.0, 100)

    def delta_of(mu):
        upper, lower = norm.cdf(mu / 2 - target / mu), norm.cdf(-mu / 2 - target / mu)
        return upper - math.exp(target) * lower

    exact = 10 / brentq(lambda mu: delta_of(mu) - DELTA, 1e-5, 10)
    assert exact <= noise <= 1.001 * exact


def test_noise_for_epsilon_grows_with_steps_overflow_and_a_smaller_target():
    def noise(target, steps, overflow=0.0):
        return noise_for_epsilon(
            target, DELTA, 0.01, steps, overflow_probability=overflow, accountant="rdp"
        )

    base = noise(1.0, 500)
    assert noise(0.5, 500) > base
    assert noise(1.0, 2000) > base
    assert noise(1.0, 500, overflow=2e-9) > base
    # Renyi accounting is looser, so it needs more noise.
    assert noise_for_epsilon(1.0, DELTA, 0.01, 500) < base


def test_calibrated_phases_meet_one_target_together():
    phases = [
        MechanismRun(SampledGaussian(1.0, 0.016), 600),
        MechanismRun(SampledGaussian(3.0, 0.02), 900),
    ]
    result = calibrated(phases, 1.0, DELTA)
    assert 0.99 < epsilon(result, DELTA) <= 1.0
    noise = [phase.mechanism.noise_multiplier for phase in result]
    assert noise[1] == pytest.approx(3 * noise[0])
    assert [phase.steps for phase in result] == [600, 900]


def test_calibrated_shuffled_epochs_meet_the_target():
    phase = MechanismRun(SampledGaussian(1.0, 0.1, SHUFFLED_EPOCHS), 40)
    result = calibrated([phase], 1.0, DELTA)
    assert 0.99 < epsilon(result, DELTA) <= 1.0


@pytest.mark.parametrize("target", [0.3, 6.0, 60.0])
def test_max_steps_is_the_last_step_within_the_budget(target):
    mechanism = SampledGaussian(1.1, 0.02)
    max_count = max_steps(mechanism, target, DELTA)
    if target < 0.5:
        # A single step costs more than that.
        assert max_count == 0 and epsilon([MechanismRun(mechanism, 1)], DELTA) > target
        return
    assert epsilon([MechanismRun(mechanism, max_count)], DELTA) <= target
    assert epsilon([MechanismRun(mechanism, round(max_count * 1.01) + 1)], DELTA) > target
    assert max_steps(mechanism, target, DELTA, guess=max_count) == max_count


def test_max_steps_with_calibrated_noise_covers_the_plan():
    noise = noise_for_epsilon(0.5, DELTA, 0.016, 600)
    max_count = max_steps(SampledGaussian(noise, 0.016), 0.5, DELTA, guess=600)
    assert 600 <= max_count <= 605


def test_max_steps_after_other_updates_is_smaller():
    mechanism, before = SampledGaussian(3.0, 0.02), [MechanismRun(SampledGaussian(4.0, 0.02), 900)]
    max_count, left = (max_steps(mechanism, 1.0, DELTA, before=ran) for ran in ([], before))
    assert 0 < left < max_count
    assert epsilon([*before, MechanismRun(mechanism, left)], DELTA) <= 1.0
    assert max_steps(mechanism, 0.01, DELTA, before=before) == 0


def test_unreachable_target_is_refused_with_the_reason():
    # 1,000 steps that each lose a row with probability 1e-8 leave nothing of delta.
    with pytest.raises(UsageError, match="no noise reaches it in 1000 steps: a batch overflows"):
        noise_for_epsilon(1.0, DELTA, 0.1, 1000, overflow_probability=1e-8)
    with pytest.raises(UsageError, match="in 100000 steps, up to a noise multiplier of 10,000"):
        noise_for_epsilon(0.01, DELTA, 1.0, 100_000)
    with pytest.raises(UsageError, match="expected > 0"):
        noise_for_epsilon(0.0, DELTA, 0.1, 10)
    with pytest.raises(UsageError, match="at least one"):
        noise_for_epsilon(1.0, DELTA, 0.1, 0)


MECHANISMS = {
    "first": SampledGaussian(2.0, 0.1),
    "second": SampledGaussian(3.0, 0.2),
    "third": SampledGaussian(1.5, 0.05),
}


def state(spent, mechanisms=MECHANISMS):
    header = LedgerHeader(mechanisms, l2_norm_clip=1.0).to_dict()
    return LedgerState(
        [
            {"kind": "header", "version": VERSION, "header": header, "run_id": "0"},
            {"kind": "session", "at": dict.fromkeys(mechanisms, 0), "void": ""},
            *({"kind": "reserve", "phase": name, "count": n} for name, n in spent.items() if n),
        ]
    )


def by_hand(spent, updates, more, within=MECHANISMS):
    counts = {name: spent.get(name, 0) + (more if name in updates else 0) for name in within}
    return reference_epsilon(
        [
            (MECHANISMS[name].noise_multiplier, MECHANISMS[name].sampling_probability, count)
            for name, count in counts.items()
        ],
        DELTA,
        interval=1e-3,
    )


@pytest.mark.parametrize(
    ("spent", "updates", "within"),
    [
        ({"first": 12}, ["second"], None),
        ({"first": 5, "third": 9}, ["second", "third"], None),
        ({"first": 30, "second": 1}, ["second", "third"], ("second", "third")),
        ({}, ["first", "second", "third"], None),
    ],
)
def test_affordable_steps_equal_dp_accounting_step_by_step(spent, updates, within):
    shared = within or MECHANISMS
    costs = [by_hand(spent, updates, more, shared) for more in range(12)]
    # Between the seventh step and the eighth, so that no rounding decides.
    target = (costs[7] + costs[8]) / 2
    expected = sum(cost <= target for cost in costs[1:])
    assert expected == 7

    def result(count):
        return affordable_together(state(spent), updates, count, target, DELTA, within=within)

    assert [result(count) for count in (0, 3, 7, 8, 20)] == [0, 3, 7, 7, 7]


def test_affordable_steps_of_a_spent_budget_are_zero():
    spent = {"first": 12}
    target = by_hand(spent, [], 0) - 0.01
    assert affordable_together(state(spent), ["second"], 5, target, DELTA) == 0
    # A separate budget is not reduced by other phases.
    assert affordable_together(state(spent), ["second"], 1, 1.0, DELTA, within=("second",)) == 1


def test_affordable_shuffled_steps_finish_the_paid_pass():
    mechanisms = {"first": SampledGaussian(9.0, 0.1, SHUFFLED_EPOCHS, rows=640)}
    # Ten steps a pass; 13 steps are two passes, and three are one too many.
    target = reference_epsilon([(9.0, 1.0, 2)], DELTA) + 0.01
    assert reference_epsilon([(9.0, 1.0, 3)], DELTA) > target
    now = state({"first": 13}, mechanisms)
    assert affordable_together(now, ["first"], 50, target, DELTA) == 7


def test_largest_finds_the_limit():
    for limit in range(-1, 12):
        for max_count in range(12):
            calls = []

            def fits(number, limit=limit, calls=calls):
                calls.append(number)
                return number <= limit

            assert largest(fits, max_count) == max(min(limit, max_count), 0)
            assert all(1 <= number <= max_count for number in calls)
