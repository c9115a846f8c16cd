import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy.optimize import brentq
from scipy.stats import norm

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.epsilon import FINE, SEARCH, epsilon, replace_one_epsilon
from tf_mtl_privacy.privacy.accounting.events import (
    SHUFFLED_EPOCHS,
    MechanismRun,
    SampledGaussian,
    adjacency,
    check_delta,
    largest_delta,
    merged_noise,
    paper_epsilon,
    paper_noise,
    planned_steps,
)

DELTA = 1e-5
# tensorflow-privacy's printed example: N 60,000, B 256, z 1.12, 60 epochs.
EXAMPLE = MechanismRun(SampledGaussian(1.12, 256 / 60_000), 14_063)


def gaussian_epsilon(mu, delta):
    """Closed form (Balle and Wang 2018) for one Gaussian mechanism, sensitivity / noise = mu."""

    def excess(eps):
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu) - delta

    return brentq(excess, 0, 500, xtol=1e-12)


def directly(phases, accountant):
    for phase in phases:
        z, q = phase.mechanism.noise_multiplier, phase.mechanism.sampling_probability
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(z))
        accountant.compose(event, phase.steps)
    return accountant.get_epsilon(DELTA)


def test_the_published_example():
    assert epsilon([EXAMPLE], DELTA) == pytest.approx(2.3103, abs=1e-4)
    assert epsilon([EXAMPLE], DELTA, "rdp") == pytest.approx(2.5187, abs=1e-4)


def test_the_published_figure_is_the_older_conversion():
    # Mironov 2017: epsilon = rdp + log(1/delta) / (order - 1), over the orders of that time.
    orders = np.array([1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    accountant = rdp.RdpAccountant(orders)
    event = dp_accounting.PoissonSampledDpEvent(256 / 60_000, dp_accounting.GaussianDpEvent(1.12))
    accountant.compose(event, 14_063)
    older = np.min(accountant.rdp + math.log(1 / DELTA) / (orders - 1))
    assert older == pytest.approx(2.92, abs=0.01)


@pytest.mark.parametrize(("z", "q", "steps"), [(0.8, 0.02, 300), (3.0, 0.3, 40), (1.5, 1.0, 5)])
def test_one_phase_is_what_dp_accounting_says(z, q, steps):
    phases = [MechanismRun(SampledGaussian(z, q), steps)]
    assert epsilon(phases, DELTA, "rdp") == pytest.approx(directly(phases, rdp.RdpAccountant()))
    tight = directly(phases, pld.PLDAccountant())
    assert tight * (1 - 1e-9) <= epsilon(phases, DELTA) <= tight * 1.002


def test_two_phases_compose():
    phases = [
        MechanismRun(SampledGaussian(1.2, 0.01), 500),
        MechanismRun(SampledGaussian(4.0, 0.05), 300),
    ]
    assert epsilon(phases, DELTA) == pytest.approx(directly(phases, pld.PLDAccountant()), rel=1e-6)
    assert epsilon(phases, DELTA, "rdp") == pytest.approx(directly(phases, rdp.RdpAccountant()))
    alone = [epsilon([phase], DELTA) for phase in phases]
    assert max(alone) < epsilon(phases, DELTA) < sum(alone)


def test_the_paper_s_two_budgets_compose_to_about_2_07():
    q, steps = 0.016, 600
    # What `noise_for_epsilon` finds for 2.0 and 0.5.
    phases = [MechanismRun(SampledGaussian(z, q), steps) for z in (1.0906, 2.9115)]
    assert [epsilon([phase], DELTA) for phase in phases] == pytest.approx([2.0, 0.5], rel=2e-3)
    assert epsilon(phases, DELTA) == pytest.approx(2.07, abs=0.01)


def test_full_batch_is_the_closed_form():
    phase = MechanismRun(SampledGaussian(6.0, 1.0), 16)
    exact = gaussian_epsilon(math.sqrt(16) / 6.0, DELTA)
    assert exact <= epsilon([phase], DELTA) <= exact * 1.001
    assert exact < epsilon([phase], DELTA, "rdp") < exact * 1.3


@pytest.mark.parametrize("delta", [1e-6, 1e-8, 1e-10])
def test_a_small_delta_is_not_lost_in_rounding(delta):
    exact = gaussian_epsilon(math.sqrt(1000) / 30, delta)
    assert (
        exact <= epsilon([MechanismRun(SampledGaussian(30.0, 1.0), 1000)], delta) <= exact * 1.001
    )


@pytest.mark.parametrize("delta", [1e-10, 1e-9, 1e-8])
@pytest.mark.parametrize(("mu", "steps"), [(0.1, 10**5), (0.5, 10**6), (4.7, 4 * 10**5)])
def test_rounding_of_many_compositions_is_not_taken_for_privacy(mu, steps, delta):
    """Transforms to the millionth power are off by 1e-10, which at a small delta is all of it."""
    exact = gaussian_epsilon(mu, delta)
    found = epsilon([MechanismRun(SampledGaussian(math.sqrt(steps) / mu, 1.0), steps)], delta)
    assert exact <= found <= exact * 1.2


def test_shuffled_epochs_are_one_gaussian_per_epoch():
    mechanism = SampledGaussian(8.0, 128 / 1000, SHUFFLED_EPOCHS)
    assert mechanism.steps_per_epoch == 8
    exact = gaussian_epsilon(math.sqrt(4) / 8.0, DELTA)
    # 25 steps are three epochs and the begin of a fourth.
    assert exact <= epsilon([MechanismRun(mechanism, 25)], DELTA) <= exact * 1.001
    assert epsilon([MechanismRun(mechanism, 25, passes=4)], DELTA) == epsilon(
        [MechanismRun(mechanism, 32)], DELTA
    )
    swapped = gaussian_epsilon(2 * math.sqrt(4) / 8.0, DELTA)
    assert swapped <= replace_one_epsilon([MechanismRun(mechanism, 25)], DELTA) <= swapped * 1.001
    assert adjacency([MechanismRun(mechanism, 25)]) == "zero_out_one"
    assert adjacency([EXAMPLE]) == "add_or_remove_one"


def test_a_coarser_grid_is_never_below_a_finer_one():
    fine, coarse = (epsilon([EXAMPLE], DELTA, interval=grid) for grid in (FINE, SEARCH))
    assert fine < coarse < fine * 1.005


def test_replacing_a_row_by_group_privacy():
    found = replace_one_epsilon([EXAMPLE], DELTA)
    half = found / 2
    # The pair is true: at the delta that is left for one side, one side's epsilon is met.
    assert epsilon([EXAMPLE], DELTA / (1 + math.exp(half))) <= half * (1 + 1e-9)
    assert epsilon([EXAMPLE], DELTA) < half


@pytest.mark.parametrize("overflow", [1e-12, 1e-11])
def test_overflow_is_in_delta(overflow):
    mechanism = dataclasses.replace(EXAMPLE.mechanism, overflow_probability=overflow)
    phase = dataclasses.replace(EXAMPLE, mechanism=mechanism)
    for name in ("pld", "rdp"):
        with_overflow, without = epsilon([phase], DELTA, name), epsilon([EXAMPLE], DELTA, name)
        assert with_overflow > without
        left = DELTA - (1 + math.exp(with_overflow)) * phase.steps * overflow
        # Nothing more than what is left of delta was used, and nearly all of that.
        assert epsilon([EXAMPLE], left, name) <= with_overflow
        assert epsilon([EXAMPLE], left * 0.999, name) > with_overflow


def test_an_overflow_that_eats_delta_has_no_epsilon():
    mechanism = dataclasses.replace(EXAMPLE.mechanism, overflow_probability=1e-9)
    assert epsilon([MechanismRun(mechanism, 14_063)], DELTA) == math.inf


def test_nothing_ran_and_nothing_protects():
    assert epsilon([], DELTA) == epsilon([MechanismRun(SampledGaussian(1.0, 0.1), 0)], DELTA) == 0
    assert epsilon([MechanismRun(SampledGaussian(0.0, 0.1), 1)], DELTA) == math.inf
    assert epsilon([EXAMPLE], DELTA, images_per_person=0) == math.inf
    assert epsilon([MechanismRun(SampledGaussian(0.001, 0.1), 5)], DELTA) > 1e5


@pytest.mark.parametrize(
    ("epochs", "q", "steps"),
    [(8, 250 / 1100, 40), (7.5, 250 / 1100, 38), (0.01, 0.5, 1), (0, 0.1, 0), (3, 0.1, 30)],
)
def test_planned_steps(epochs, q, steps):
    # 1,100 rows in batches of 250 are 4.4 -> 5 steps an epoch.
    assert planned_steps(epochs, q) == steps


def test_merged_mechanisms_are_one_event():
    assert merged_noise([3.0]) == pytest.approx(3.0)
    assert merged_noise([2.0, 2.0]) == pytest.approx(2 / math.sqrt(2))
    merged = merged_noise([3.0, 5.0, 4.0])
    # Hand-worked: 1/9 + 1/25 + 1/16 = 0.21361.
    assert merged == pytest.approx(0.2136111**-0.5, rel=1e-6)
    event = dp_accounting.ComposedDpEvent(
        [dp_accounting.GaussianDpEvent(z) for z in (3.0, 5.0, 4.0)]
    )
    accountant = rdp.RdpAccountant()
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.1, event), 50)
    expected = accountant.get_epsilon(DELTA)
    found = epsilon([MechanismRun(SampledGaussian(merged, 0.1), 50)], DELTA, "rdp")
    assert found == pytest.approx(expected, rel=1e-9)
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(UsageError, match="expected each > 0"):
            merged_noise(wrong)


def test_the_paper_s_rule():
    # sqrt(2 ln(1.25e5)) = 4.8448
    assert paper_noise(2.0, DELTA) == pytest.approx(4.8448 / 2, rel=1e-4)
    assert paper_epsilon(paper_noise(0.7, DELTA), DELTA) == pytest.approx(0.7)
    assert paper_epsilon(0.0, DELTA) == math.inf


def test_the_rule_for_delta():
    assert largest_delta(0) == largest_delta(50_000) == 1e-5
    assert largest_delta(162_770) == pytest.approx(3.0718e-6, rel=1e-4)
    check_delta(1e-5, 8000)
    check_delta(1 / (2 * 162_770), 162_770)
    for delta, rows, words in [
        (2e-5, 100, "at most 1e-05"),
        (1e-5, 60_000, "60,000 rows"),
        (1e-12, 100, "at least 1e-10"),
        (math.nan, 100, "at most"),
    ]:
        with pytest.raises(UsageError, match=words):
            check_delta(delta, rows)


@pytest.mark.parametrize(
    "values", [(-1.0, 0.1), (math.nan, 0.1), (1.0, 0.0), (1.0, 1.1), (1.0, 0.1, "sorted")]
)
def test_impossible_mechanisms_are_refused(values):
    with pytest.raises(UsageError, match="expected"):
        SampledGaussian(*values)


def test_wrong_questions_are_refused():
    with pytest.raises(UsageError, match="pld or rdp"):
        epsilon([EXAMPLE], DELTA, "moments")
    for delta in (0.0, 1e-11, 1.0):
        with pytest.raises(UsageError, match="delta="):
            epsilon([EXAMPLE], delta)
    with pytest.raises(UsageError, match=">= 0"):
        MechanismRun(EXAMPLE.mechanism, -1)
