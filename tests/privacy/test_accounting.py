"""Epsilon of examples and persons, compared with dp-accounting, closed forms and integrals."""

import dataclasses
import math
import re

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import binom, norm

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.calibration import calibrated
from tf_mtl_privacy.privacy.accounting.epsilon import (
    FINE,
    SEARCH,
    epsilon,
    replace_one_epsilon,
    why_infinite,
)
from tf_mtl_privacy.privacy.accounting.events import (
    SHUFFLED_EPOCHS,
    MechanismRun,
    SampledGaussian,
    adjacency,
    capacity_bits,
    check_delta,
    largest_delta,
    merged_noise,
    paper_epsilon,
    paper_noise,
    planned_steps,
)
from tf_mtl_privacy.privacy.accounting.pld import group_pld, hockey_stick, mixture_loss
from tf_mtl_privacy.privacy.accounting.rdp import (
    _group_bound,
    _group_integral,
    _orders,
    _sampled_gaussian,
)
from tf_mtl_privacy.privacy.batch_selection import capacity_for, overflow_probability, upper_tail
from tf_mtl_privacy.privacy.noise_record import UPDATE_TAIL, reach

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


def test_epsilon_of_the_published_example_is_known():
    assert epsilon([EXAMPLE], DELTA) == pytest.approx(2.3103, abs=1e-4)
    assert epsilon([EXAMPLE], DELTA, "rdp") == pytest.approx(2.5187, abs=1e-4)


def test_published_figure_follows_from_the_older_conversion():
    # Mironov 2017: epsilon = rdp + log(1/delta) / (order - 1), over the orders of that time.
    orders = np.array([1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    accountant = rdp.RdpAccountant(orders)
    event = dp_accounting.PoissonSampledDpEvent(256 / 60_000, dp_accounting.GaussianDpEvent(1.12))
    accountant.compose(event, 14_063)
    older = np.min(accountant.rdp + math.log(1 / DELTA) / (orders - 1))
    assert older == pytest.approx(2.92, abs=0.01)


@pytest.mark.parametrize(("z", "q", "steps"), [(0.8, 0.02, 300), (3.0, 0.3, 40), (1.5, 1.0, 5)])
def test_epsilon_of_one_phase_equals_dp_accounting(z, q, steps):
    phases = [MechanismRun(SampledGaussian(z, q), steps)]
    assert epsilon(phases, DELTA, "rdp") == pytest.approx(directly(phases, rdp.RdpAccountant()))
    tight = directly(phases, pld.PLDAccountant())
    assert tight * (1 - 1e-9) <= epsilon(phases, DELTA) <= tight * 1.002


def test_epsilon_of_two_phases_equals_dp_accounting():
    phases = [
        MechanismRun(SampledGaussian(1.2, 0.01), 500),
        MechanismRun(SampledGaussian(4.0, 0.05), 300),
    ]
    assert epsilon(phases, DELTA) == pytest.approx(directly(phases, pld.PLDAccountant()), rel=1e-6)
    assert epsilon(phases, DELTA, "rdp") == pytest.approx(directly(phases, rdp.RdpAccountant()))
    alone = [epsilon([phase], DELTA) for phase in phases]
    assert max(alone) < epsilon(phases, DELTA) < sum(alone)


def test_budgets_of_the_paper_compose_to_about_2_07():
    q, steps = 0.016, 600
    # Noise from `noise_for_epsilon` for 2.0 and 0.5.
    phases = [MechanismRun(SampledGaussian(z, q), steps) for z in (1.0906, 2.9115)]
    assert [epsilon([phase], DELTA) for phase in phases] == pytest.approx([2.0, 0.5], rel=2e-3)
    assert epsilon(phases, DELTA) == pytest.approx(2.07, abs=0.01)


def test_epsilon_of_full_batches_equals_the_closed_form():
    phase = MechanismRun(SampledGaussian(6.0, 1.0), 16)
    exact = gaussian_epsilon(math.sqrt(16) / 6.0, DELTA)
    assert exact <= epsilon([phase], DELTA) <= exact * 1.001
    assert exact < epsilon([phase], DELTA, "rdp") < exact * 1.3


@pytest.mark.parametrize("delta", [1e-6, 1e-8, 1e-10])
def test_epsilon_at_a_small_delta_equals_the_closed_form(delta):
    exact = gaussian_epsilon(math.sqrt(1000) / 30, delta)
    assert (
        exact <= epsilon([MechanismRun(SampledGaussian(30.0, 1.0), 1000)], delta) <= exact * 1.001
    )


@pytest.mark.parametrize("delta", [1e-10, 1e-9, 1e-8])
@pytest.mark.parametrize(("mu", "steps"), [(0.1, 10**5), (0.5, 10**6), (4.7, 4 * 10**5)])
def test_epsilon_of_many_updates_is_not_below_the_closed_form(mu, steps, delta):
    """Transforms to the millionth power are off by 1e-10, as much as a small delta."""
    exact = gaussian_epsilon(mu, delta)
    result = epsilon([MechanismRun(SampledGaussian(math.sqrt(steps) / mu, 1.0), steps)], delta)
    assert exact <= result <= exact * 1.2


def test_shuffled_epochs_count_as_one_gaussian_per_epoch():
    mechanism = SampledGaussian(8.0, 128 / 1000, SHUFFLED_EPOCHS)
    assert mechanism.steps_per_epoch == 8
    exact = gaussian_epsilon(math.sqrt(4) / 8.0, DELTA)
    # 25 steps are three epochs and the beginning of a fourth.
    assert exact <= epsilon([MechanismRun(mechanism, 25)], DELTA) <= exact * 1.001
    assert epsilon([MechanismRun(mechanism, 25, passes=4)], DELTA) == epsilon(
        [MechanismRun(mechanism, 32)], DELTA
    )
    swapped = gaussian_epsilon(2 * math.sqrt(4) / 8.0, DELTA)
    assert swapped <= replace_one_epsilon([MechanismRun(mechanism, 25)], DELTA) <= swapped * 1.001
    assert adjacency([MechanismRun(mechanism, 25)]) == "zero_out_one"
    assert adjacency([EXAMPLE]) == "add_or_remove_one"


def test_epsilon_on_a_coarser_grid_is_not_smaller():
    fine, coarse = (epsilon([EXAMPLE], DELTA, interval=grid) for grid in (FINE, SEARCH))
    assert fine < coarse < fine * 1.005


def test_replace_one_epsilon_holds_at_the_remaining_delta():
    result = replace_one_epsilon([EXAMPLE], DELTA)
    half = result / 2
    # The pair holds: each side meets its epsilon at the delta that is left for one side.
    assert epsilon([EXAMPLE], DELTA / (1 + math.exp(half))) <= half * (1 + 1e-9)
    assert epsilon([EXAMPLE], DELTA) < half


@pytest.mark.parametrize("overflow", [1e-12, 1e-11])
def test_overflow_probability_is_part_of_delta(overflow):
    mechanism = dataclasses.replace(EXAMPLE.mechanism, overflow_probability=overflow)
    phase = dataclasses.replace(EXAMPLE, mechanism=mechanism)
    for name in ("pld", "rdp"):
        with_overflow, without = epsilon([phase], DELTA, name), epsilon([EXAMPLE], DELTA, name)
        assert with_overflow > without
        left = DELTA - (1 + math.exp(with_overflow)) * phase.steps * overflow
        # The rest of delta was used almost completely, and no more.
        assert epsilon([EXAMPLE], left, name) <= with_overflow
        assert epsilon([EXAMPLE], left * 0.999, name) > with_overflow


def test_epsilon_with_overflow_above_delta_is_infinite():
    mechanism = dataclasses.replace(EXAMPLE.mechanism, overflow_probability=1e-9)
    assert epsilon([MechanismRun(mechanism, 14_063)], DELTA) == math.inf


def test_epsilon_is_zero_without_updates_and_infinite_without_noise():
    assert epsilon([], DELTA) == epsilon([MechanismRun(SampledGaussian(1.0, 0.1), 0)], DELTA) == 0
    assert epsilon([MechanismRun(SampledGaussian(0.0, 0.1), 1)], DELTA) == math.inf
    assert epsilon([EXAMPLE], DELTA, images_per_person=0) == math.inf
    assert epsilon([MechanismRun(SampledGaussian(0.001, 0.1), 5)], DELTA) > 1e5


@pytest.mark.parametrize(
    ("epochs", "q", "steps"),
    [(8, 250 / 1100, 40), (7.5, 250 / 1100, 38), (0.01, 0.5, 1), (0, 0.1, 0), (3, 0.1, 30)],
)
def test_planned_steps_round_epochs_up(epochs, q, steps):
    # 1,100 rows in batches of 250 are 4.4 -> 5 steps an epoch.
    assert planned_steps(epochs, q) == steps


def test_merged_noise_equals_one_composed_event():
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
    result = epsilon([MechanismRun(SampledGaussian(merged, 0.1), 50)], DELTA, "rdp")
    assert result == pytest.approx(expected, rel=1e-9)
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(UsageError, match="expected each > 0"):
            merged_noise(wrong)


def test_paper_noise_is_the_textbook_rule():
    # sqrt(2 ln(1.25e5)) = 4.8448
    assert paper_noise(2.0, DELTA) == pytest.approx(4.8448 / 2, rel=1e-4)
    assert paper_epsilon(paper_noise(0.7, DELTA), DELTA) == pytest.approx(0.7)
    assert paper_epsilon(0.0, DELTA) == math.inf


def test_check_delta_refuses_values_out_of_range():
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
def test_mechanism_out_of_range_is_refused(values):
    with pytest.raises(UsageError, match="expected"):
        SampledGaussian(*values)


def test_epsilon_with_bad_arguments_is_refused():
    with pytest.raises(UsageError, match="pld or rdp"):
        epsilon([EXAMPLE], DELTA, "moments")
    for delta in (0.0, 1e-11, 1.0):
        with pytest.raises(UsageError, match="delta="):
            epsilon([EXAMPLE], delta)
    with pytest.raises(UsageError, match=">= 0"):
        MechanismRun(EXAMPLE.mechanism, -1)


def densities(m, q, z):
    def mixture(x):
        return sum(binom.pmf(k, m, q) * norm.pdf(x, k, z) for k in range(m + 1))

    return mixture, lambda x: norm.pdf(x, 0, z)


@pytest.mark.parametrize(("m", "q", "z"), [(1, 0.2, 1.0), (3, 0.1, 0.8), (4, 0.5, 2.0)])
@pytest.mark.parametrize("removed", [True, False])
def test_hockey_stick_equals_numerical_integration(m, q, z, removed):
    mixture, plain = densities(m, q, z)
    upper, lower = (mixture, plain) if removed else (plain, mixture)
    epsilons = np.array([-0.5, -0.05, 0.1, 0.8])
    result = hockey_stick(epsilons, m, q, z, removed)
    for eps, delta in zip(epsilons, result, strict=True):
        exact = quad(
            lambda x, e=eps: max(upper(x) - math.exp(e) * lower(x), 0),
            -12 * z,
            m + 12 * z,
            limit=400,
            points=np.linspace(-2, m + 2, 9),
        )[0]
        assert delta == pytest.approx(exact, abs=1e-8)
    assert (np.diff(result) <= 0).all()


def test_mixture_loss_is_the_log_ratio_of_densities():
    mixture, plain = densities(3, 0.1, 0.8)
    x = np.array([-2.0, 0.0, 1.5, 5.0])
    np.testing.assert_allclose(mixture_loss(x, 3, 0.1, 0.8), np.log(mixture(x) / plain(x)))


def test_group_of_one_equals_the_sampled_gaussian():
    q, z = 0.02, 0.9
    result = group_pld(1, q, z, 1e-4).self_compose(200).get_epsilon_for_delta(DELTA)
    assert result == pytest.approx(
        epsilon([MechanismRun(SampledGaussian(z, q), 200)], DELTA), rel=1e-6
    )
    renyi, expected = _group_integral(q, z, 1), _sampled_gaussian(q, z)
    finite = np.isfinite(renyi)
    assert finite.sum() > 50
    np.testing.assert_allclose(renyi[finite], expected[finite], rtol=1e-5)


def test_group_in_every_batch_is_one_gaussian():
    person = epsilon([MechanismRun(SampledGaussian(12.0, 1.0), 9)], DELTA, images_per_person=3)
    assert person == pytest.approx(
        epsilon([MechanismRun(SampledGaussian(4.0, 1.0), 9)], DELTA), rel=2e-3
    )


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_group_epsilon_grows_with_size_below_the_coarse_bound(name):
    phase = MechanismRun(SampledGaussian(2.0, 0.02), 200)
    result = [epsilon([phase], DELTA, name, images_per_person=m) for m in (1, 2, 4)]
    assert result[0] < result[1] < result[2]
    # An upper bound: all four are in the batch whenever one of them is.
    coarse = MechanismRun(SampledGaussian(2.0 / 4, 1 - 0.98**4), 200)
    assert result[2] < epsilon([coarse], DELTA, name)


@pytest.mark.parametrize(("m", "q", "z"), [(3, 0.1, 0.8), (6, 0.3, 3.0), (20, 0.005, 1.0)])
@pytest.mark.parametrize("order", [1.5, 8.0, 32.0])
def test_group_renyi_equals_numerical_integration(m, q, z, order):
    x = np.linspace(-order * m - 15 * z, order * m + 15 * z, 40_001)
    parts = [
        binom.logpmf(k, m, q) + norm.logpdf(x, k, z) - norm.logpdf(x, 0, z) for k in range(m + 1)
    ]
    log_ratio = np.logaddexp.reduce(parts, axis=0)

    def moment(power):
        return logsumexp(power * log_ratio + norm.logpdf(x, 0, z)) + math.log(x[1] - x[0])

    expected = max(moment(order), moment(1 - order)) / (order - 1)
    result = dict(zip(_orders(), _group_integral(q, z, m), strict=True))[order]
    assert result == pytest.approx(expected, rel=1e-5)


def test_group_renyi_is_below_its_bound():
    finite = np.isfinite(_group_integral(0.02, 2.0, 4))
    assert finite.sum() > 20
    ratio = _group_integral(0.02, 2.0, 4)[finite] / _group_bound(0.02, 2.0, 4)[finite]
    assert (ratio < 1).all() and ratio.min() < 0.5


def test_person_epsilon_of_shuffled_epochs_scales_noise():
    mechanism = SampledGaussian(30.0, 0.1, SHUFFLED_EPOCHS)
    person = epsilon([MechanismRun(mechanism, 40)], DELTA, images_per_person=5)
    alone = SampledGaussian(6.0, 0.1, SHUFFLED_EPOCHS)
    assert person == pytest.approx(epsilon([MechanismRun(alone, 40)], DELTA), rel=1e-6)


NETWORKS = 3


# The page's rows: q, noise of each update, steps.
CASES = [(512 / 12_000, 2.44, 144), (512 / 12_000, 1.0, 144), (128 / 8000, 0.8, 630)]


@pytest.mark.parametrize(("q", "z", "steps"), CASES)
def test_separate_batches_cost_less_than_one_merged_event(q, z, steps, repo_root):
    merged = merged_noise([z] * NETWORKS)
    assert merged == pytest.approx(z / math.sqrt(NETWORKS))
    separate_cost = reference_epsilon([(z, q, NETWORKS * steps)], DELTA, 1e-3)
    merged_cost = reference_epsilon([(merged, q, steps)], DELTA, 1e-3)
    assert separate_cost < merged_cost
    ours = [epsilon([MechanismRun(SampledGaussian(z, q), steps)] * NETWORKS, DELTA)]
    ours.append(epsilon([MechanismRun(SampledGaussian(merged, q), steps)], DELTA))
    assert ours == pytest.approx([separate_cost, merged_cost], rel=5e-3)
    # The page has these figures.
    page = (repo_root / "docs" / "accounting.md").read_text(encoding="utf-8")
    row = rf"\| {q:.4f} \| {z:g} \| {steps} \| ([\d.]+) \| ([\d.]+) \|"
    shown = [float(figure) for figure in re.search(row, page).groups()]
    assert shown == pytest.approx(ours, rel=6e-3)


def test_target_needs_more_noise_on_shared_batches(repo_root):
    q, single, joint = 512 / 12_000, 12 * 24, 6 * 24

    def shared(z):
        return reference_epsilon([(z, q, single), (z / math.sqrt(NETWORKS), q, joint)], DELTA)

    def separate(z):
        return reference_epsilon([(z, q, single + NETWORKS * joint)], DELTA)

    assert separate(2.45) <= 2 < separate(2.43)
    assert shared(2.65) <= 2 < shared(2.63)
    page = " ".join((repo_root / "docs" / "accounting.md").read_text(encoding="utf-8").split())
    assert "a noise of 2.45 in all updates, and 2.65 if the joint phase shared" in page


SMALL_DELTA = 8e-6
ROWS, Q, STEPS = 60_000, 250 / 60_000, 14_400


def with_overflow(phase, probability, rows=ROWS):
    q = phase.mechanism.sampling_probability
    tail = upper_tail(capacity_for(rows, q, probability), rows, q)
    mechanism = dataclasses.replace(phase.mechanism, overflow_probability=tail)
    return dataclasses.replace(phase, mechanism=mechanism)


@pytest.mark.parametrize("target", [1.0, 50.0])
def test_chosen_overflow_does_not_decide_the_noise(target):
    phase = MechanismRun(SampledGaussian(1.0, Q), STEPS)
    chosen = overflow_probability([phase], SMALL_DELTA, target)
    result = calibrated([with_overflow(phase, chosen)], target, SMALL_DELTA)[0]
    noise = result.mechanism.noise_multiplier
    grid = 1e-3 if target < 10 else 1e-2
    # By dp-accounting, which ignores overflow.
    assert reference_epsilon([(noise / 1.002, Q, STEPS)], SMALL_DELTA, grid) > target
    assert epsilon([result], SMALL_DELTA) <= target
    assert chosen <= 1e-15


def test_chosen_overflow_leaves_finite_epsilons_of_person_and_replacement():
    phase = MechanismRun(SampledGaussian(1.0, 0.05, rows=2000), 200)
    chosen = overflow_probability([phase], SMALL_DELTA, 4.0, images_per_person=4)
    result = calibrated([with_overflow(phase, chosen, 2000)], 4.0, SMALL_DELTA)[0]
    assert math.isfinite(epsilon([result], SMALL_DELTA, images_per_person=4))
    assert math.isfinite(replace_one_epsilon([result], SMALL_DELTA))
    # The probability of earlier versions leaves none for a person.
    before = calibrated([with_overflow(phase, 1e-15, 2000)], 4.0, SMALL_DELTA)[0]
    assert epsilon([before], SMALL_DELTA, images_per_person=4) == math.inf


def test_chosen_overflow_for_a_huge_epsilon_is_zero():
    chosen = overflow_probability([MechanismRun(SampledGaussian(0.05, Q), STEPS)], SMALL_DELTA)
    assert chosen == 0.0 and capacity_for(ROWS, Q, chosen) == ROWS
    assert overflow_probability([], SMALL_DELTA) == 1e-15
    assert 0 < upper_tail(ROWS - 1, ROWS, Q) < 1e-300, "never rounded down to nothing"


def test_epsilon_beyond_the_reach_of_the_noise_is_infinite():
    # One update of noise 0.05: 20 standard deviations between the tables, and the noise has 16.3.
    one = [MechanismRun(SampledGaussian(0.05, 1.0), 1)]
    assert reach() < 1 / 0.05 and epsilon(one, SMALL_DELTA) == math.inf
    # Below the reach, (1 + e^epsilon) times the tail of each update is charged.
    phases = [MechanismRun(SampledGaussian(0.1, 1.0), 1)]
    result = epsilon(phases, SMALL_DELTA)
    left = SMALL_DELTA - (1 + math.exp(result)) * UPDATE_TAIL
    assert reference_epsilon([(0.1, 1.0, 1)], left, 1e-2) == pytest.approx(result, rel=1e-3)


@pytest.mark.parametrize(
    ("mechanism", "images", "words"),
    [
        (SampledGaussian(0.0, 0.1), 1, "without noise"),
        (SampledGaussian(1.0, 0.1), 0, "not bounded"),
        (
            SampledGaussian(1.0, 0.1, overflow_probability=1e-8),
            1,
            "lower --overflow_probability to 1e-",
        ),
        (SampledGaussian(0.05, 0.1), 1, "ends at 16.3 standard deviations"),
    ],
)
def test_why_infinite_names_the_reason(mechanism, images, words):
    phases = [MechanismRun(mechanism, 1000)]
    assert epsilon(phases, SMALL_DELTA, images_per_person=images) == math.inf
    assert words in why_infinite(phases, SMALL_DELTA, images)


def test_recommended_overflow_gives_a_finite_epsilon():
    phases = [MechanismRun(SampledGaussian(1.0, 0.1, overflow_probability=1e-8), 1000)]
    recommended = float(why_infinite(phases, SMALL_DELTA).split("probability to ")[1].split(",")[0])
    mechanism = dataclasses.replace(phases[0].mechanism, overflow_probability=recommended)
    assert math.isfinite(epsilon([MechanismRun(mechanism, 1000)], SMALL_DELTA))


@pytest.mark.parametrize(
    ("entries", "deviation", "draws", "bits"),
    [
        (2, 1.0, 1, 1.0),  # two channels of half a bit each
        (128, 1.0, 1, 64.0),
        (10, 0.5, 1, 5 * math.log2(5)),
        (2, 1.0, 3, 2.0),
        (16, 1.0, 63, 48.0),
    ],
)
def test_capacity_bits_equals_hand_worked_channels(entries, deviation, draws, bits):
    assert capacity_bits(entries, deviation, draws) == pytest.approx(bits, rel=1e-12)


def test_capacity_bits_without_noise_is_infinite():
    assert capacity_bits(4, 0.0) == math.inf


def test_capacity_bits_bounds_random_gaussian_inputs():
    rng, size, deviation = np.random.default_rng(0), 6, 0.7
    bound = capacity_bits(size, deviation)
    passed = []
    for _ in range(200):
        root = rng.normal(size=(size, size)) * rng.exponential(size=size)
        covariance = root @ root.T
        covariance *= size / np.trace(covariance)
        determinant = np.linalg.det(np.eye(size) + covariance / deviation**2)
        passed.append(0.5 * np.log2(determinant))
    assert max(passed) < bound
    even = 0.5 * np.log2(np.linalg.det(np.eye(size) * (1 + 1 / deviation**2)))
    assert even == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize(
    ("entries", "deviation", "draws"), [(0, 1.0, 1), (4, -1.0, 1), (4, math.nan, 1), (4, 1.0, 0)]
)
def test_capacity_bits_out_of_range_is_refused(entries, deviation, draws):
    with pytest.raises(ValueError, match="Expected entries="):
        capacity_bits(entries, deviation, draws)
