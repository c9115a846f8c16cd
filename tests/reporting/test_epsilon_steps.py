"""Epsilon over steps against dp-accounting itself, and where there is none to draw."""

import dp_accounting
import pytest
from dp_accounting import pld

from tests.reporting.private_runs import BATCH, DELTA, ROWS, STEPS, plain_dp, private_dp
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS
from tf_mtl_privacy.reporting.sections.privacy import epsilon_over_steps, spans, why_not


def directly(steps):
    accountant = pld.PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(BATCH / ROWS, dp_accounting.GaussianDpEvent(2.0))
    accountant.compose(event, steps)
    return accountant.get_epsilon(DELTA)


def test_epsilon_over_steps_agrees_with_dp_accounting():
    dp = private_dp()
    points = epsilon_over_steps(dp, points=2)
    joint = STEPS["adversarial_discriminator"]
    until = [25, 50, 50 + joint // 2, 50 + joint]
    assert [point.steps for point in points] == until
    # The joint phase has 75 steps: half of it, rounded up, are 38.
    for point, steps in zip(points, (25, 50, 88, 125), strict=True):
        assert directly(steps) - 1e-9 <= point.epsilon_pld <= directly(steps) * 1.01
        assert point.epsilon_pld < point.epsilon_rdp
    assert points[-1].epsilon_pld == dp["as_run"]["epsilon_pld"]


def test_spans_of_the_joint_phase_interleave_its_updates():
    dp = private_dp("all")
    assert spans(dp) == [
        ("business", 0, 90),
        ("discriminator", 90, 140),
        ("restorer", 140, 180),
        ("joint phase", 180, 255),
    ]
    points = epsilon_over_steps(dp, points=1)
    # Three updates in each of the 75 joint steps.
    assert points[-1].epsilon_pld == pytest.approx(directly(90 + 50 + 40 + 3 * 75), rel=0.01)
    assert [point.steps for point in points] == [90, 140, 180, 255]


def test_why_not_gives_the_reason_for_a_missing_curve():
    assert why_not(private_dp()) == ""
    assert why_not(plain_dp()) == "trained without differential privacy"
    assert why_not(private_dp(void="a fixed key")) == "void: a fixed key"
    assert "shuffled epochs" in why_not(private_dp(sampling=SHUFFLED_EPOCHS))
