"""Poisson batches, their capacity, shared samplers, and the bound on rows per person."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, merged_noise
from tf_mtl_privacy.privacy.batch_selection import (
    PoissonBatches,
    capacity_for,
    check_own_batches,
    limit_per_person,
    upper_tail,
)
from tf_mtl_privacy.privacy.keys import SecretKey, key_for_tests, secret_key

KEY = key_for_tests(1)


def draws(batches, epochs):
    steps = batches.steps_per_epoch
    return [batches.batch(epoch, step) for epoch in range(epochs) for step in range(steps)]


def test_batch_sizes_are_binomial():
    batches = PoissonBatches(np.arange(40), 0.1, key=KEY)
    sizes = np.array([mask.sum() for _, mask in draws(batches, 400)])
    assert len(sizes) == 4000
    counts = np.bincount(np.minimum(sizes, 9), minlength=10)
    expected = binom.pmf(np.arange(10), 40, 0.1)
    expected[9] = binom.sf(8, 40, 0.1)
    assert chisquare(counts, expected * len(sizes)).pvalue > 1e-4
    # As expected, 1.5 % of the batches are empty.
    assert counts[0] > 0


def test_rows_are_drawn_independently_of_each_other_and_of_the_step():
    batches = PoissonBatches(np.arange(30), 0.2, key=KEY)
    present = np.zeros((4000, 30))
    for number, (rows, mask) in enumerate(draws(batches, 800)):
        present[number, rows[mask]] = 1
    # Each row: Binomial(4000, 0.2), within five standard deviations.
    assert np.abs(present.mean(axis=0) - 0.2).max() < 5 * np.sqrt(0.16 / 4000)
    together = np.corrcoef(present.T) - np.eye(30)
    assert np.abs(together).max() < 5 / np.sqrt(4000)
    following = np.mean((present[1:] - 0.2) * (present[:-1] - 0.2)) / 0.16
    assert abs(following) < 5 / np.sqrt(4000 * 30)


@pytest.mark.parametrize("q", [1 / 3, 128 / 8000, 1e-7, 2.0**-40, 1.0])
def test_sampling_probability_does_not_exceed_the_accounted_one(q, monkeypatch):
    batches = PoissonBatches(np.arange(2), q, capacity=2, key=KEY)
    assert batches.mechanism(1.0).sampling_probability == q
    # `Generator.random` gives k 2^-53, each k < 2^53 alike: find how many of them draw a row.
    coin = {}

    class Generator:
        def random(self, size):
            return np.full(size, coin["k"] * 2.0**-53)

    monkeypatch.setattr(SecretKey, "generator", lambda *_: Generator())
    low, high = 0, 2**53
    while low < high:
        coin["k"] = (low + high) // 2
        drawn = batches.batch(0, 0)[1].all()
        low, high = (coin["k"] + 1, high) if drawn else (low, coin["k"])
    assert Fraction(low, 2**53) <= Fraction(q) < Fraction(low + 1, 2**53)


def test_batch_is_padded_to_its_capacity():
    batches = PoissonBatches(np.arange(100, 140), 0.1, capacity=20, key=KEY)
    for rows, mask in draws(batches, 3):
        assert rows.shape == mask.shape == (20,)
        assert rows.dtype == np.int64 and mask.dtype == np.bool_
        real = rows[mask]
        assert ((real >= 100) & (real < 140)).all() and len(set(real)) == len(real)
        assert (rows[~mask] == -1).all() and (np.diff(mask.astype(int)) <= 0).all()


def test_overflow_drops_rows_at_random():
    batches = PoissonBatches(np.arange(10), 0.9, capacity=4, key=KEY)
    kept = np.zeros(10)
    for rows, mask in draws(batches, 1000):
        assert mask.sum() <= 4
        kept[rows[mask]] += 1
    assert chisquare(kept).pvalue > 1e-4
    assert batches.overflow_probability == pytest.approx(binom.sf(4, 10, 0.9), rel=1e-5)


def test_batch_is_a_pure_function_of_key_and_step():
    used, fresh = (PoissonBatches(np.arange(500), 0.05, key=key_for_tests(7)) for _ in range(2))
    draws(used, 1)
    for epoch, step in [(0, 0), (3, 11), (2, 19)]:
        np.testing.assert_array_equal(used.batch(epoch, step)[0], fresh.batch(epoch, step)[0])
    other = PoissonBatches(np.arange(500), 0.05, key=key_for_tests(7).derive("another phase"))
    assert (other.batch(0, 0)[0][:5] != fresh.batch(0, 0)[0][:5]).any()
    assert (fresh.batch(0, 1)[0][:5] != fresh.batch(1, 0)[0][:5]).any()


def test_sampling_probability_of_one_gives_full_batches():
    batches = PoissonBatches(np.arange(7), 1.0, key=KEY)
    assert (batches.steps_per_epoch, batches.capacity, batches.overflow_probability) == (1, 7, 0)
    rows, mask = batches.batch(5, 0)
    assert mask.all() and rows.tolist() == list(range(7))


def test_mechanism_has_the_parameters_of_the_sampler():
    batches = PoissonBatches(np.arange(8000), 128 / 8000, key=KEY)
    assert batches.steps_per_epoch == 63 and batches.expected_batch_size == pytest.approx(128)
    mechanism = batches.mechanism(1.5)
    assert (mechanism.rows, mechanism.sampling, mechanism.steps_per_epoch) == (8000, "poisson", 63)
    assert 0 < mechanism.overflow_probability <= 1e-15
    assert PoissonBatches(np.arange(49), 1 / 49, key=KEY).steps_per_epoch == 49


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200_000), st.floats(1e-4, 1.0), st.data())
def test_upper_tail_equals_scipy(trials, q, data):
    mean, spread = trials * q, np.sqrt(trials * q * (1 - q)) + 1
    count = int(np.clip(mean + data.draw(st.floats(-4, 9)) * spread, 0, trials))
    exact = binom.sf(count, trials, q)
    assert upper_tail(count, trials, q) == pytest.approx(exact, rel=1e-5, abs=1e-290)


@pytest.mark.parametrize("bound", [1e-6, 1e-12, 1e-15, 1e-18])
@pytest.mark.parametrize(("trials", "q"), [(8000, 0.016), (162_770, 128 / 162_770), (600, 0.2)])
def test_capacity_is_the_smallest_that_suffices(trials, q, bound):
    capacity = capacity_for(trials, q, bound)
    assert binom.sf(capacity, trials, q) <= bound < binom.sf(capacity - 1, trials, q)


def test_limit_per_person_keeps_at_most_that_many_rows():
    rows = np.arange(1000, 1300)
    person = np.random.default_rng(0).integers(0, 25, 300)
    kept = limit_per_person(rows, person, 5, seed=3)
    assert (np.diff(kept) > 0).all()
    counts = np.bincount(person[kept - 1000], minlength=25)
    np.testing.assert_array_equal(counts, np.minimum(np.bincount(person, minlength=25), 5))
    np.testing.assert_array_equal(kept, limit_per_person(rows, person, 5, seed=3))
    assert not np.array_equal(kept, limit_per_person(rows, person, 5, seed=4))


def test_rows_of_a_person_are_chosen_independently_of_other_people():
    rows, person = np.arange(300), np.random.default_rng(1).integers(0, 25, 300)
    with_all = limit_per_person(rows, person, 5, seed=0)
    others = person != 7
    without = limit_per_person(rows[others], person[others], 5, seed=0)
    np.testing.assert_array_equal(without, with_all[person[with_all] != 7])


def test_limit_per_person_follows_names_when_rows_are_renumbered():
    person = np.random.default_rng(2).integers(0, 25, 300)
    names = np.array([f"{number:06d}.jpg" for number in range(300)])
    kept = set(names[limit_per_person(np.arange(300), person, 5, seed=0, names=names)])
    # Two people are taken out; the rows that stay move up.
    stay = (person != 7) & (person != 3)
    person, names = person[stay], names[stay]
    rows = np.arange(len(names))
    left = limit_per_person(rows, person, 5, seed=0, names=names)
    assert set(names[left]) == kept & set(names)
    by_number = limit_per_person(rows, person, 5, seed=0)
    assert set(names[by_number]) != kept & set(names), "row numbers are not stable"
    # The order of rows does not matter.
    order = np.random.default_rng(3).permutation(rows)
    again = limit_per_person(rows, person[order], 5, seed=0, names=names[order])
    assert set(names[order][again]) == set(names[left])


def test_limit_per_person_chooses_each_row_equally_often():
    first = [limit_per_person(np.arange(8), np.zeros(8), 1, seed)[0] for seed in range(400)]
    assert chisquare(np.bincount(first, minlength=8)).pvalue > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"rows": np.array([], np.int64)},
        {"rows": np.array([3, 4, 3])},
        {"sampling_probability": 0.0},
        {"sampling_probability": 1.5},
        {"capacity": 0},
        {"overflow_probability": 0.0},
    ],
)
def test_poisson_batches_with_bad_arguments_are_refused(change):
    arguments = {"rows": np.arange(10), "sampling_probability": 0.5} | change
    with pytest.raises(UsageError):
        PoissonBatches(**arguments, key=KEY)


def test_limit_per_person_with_bad_arguments_is_refused():
    with pytest.raises(UsageError, match="expected > 0"):
        limit_per_person(np.arange(3), np.zeros(3), 0, 0)
    with pytest.raises(UsageError, match="1 of 3 rows have no identity"):
        limit_per_person(np.arange(3), np.array([0, -1, 1]), 2, 0)
    with pytest.raises(ValueError, match="one person per row"):
        limit_per_person(np.arange(3), np.zeros(2), 2, 0)


@pytest.mark.parametrize(("epoch", "step"), [(0, 10), (0, -1), (-1, 0)])
def test_step_outside_the_epoch_is_refused(epoch, step):
    with pytest.raises(IndexError):
        PoissonBatches(np.arange(50), 0.1, key=KEY).batch(epoch, step)


def sampler(key, rows=100, q=0.1):
    return PoissonBatches(np.arange(rows), q, key=key)


def test_shared_sampler_is_refused():
    shared = sampler(KEY)
    other = sampler(KEY.derive("other"))
    with pytest.raises(UsageError, match="first and third use the same Poisson batches"):
        check_own_batches({"first": shared, "second": other, "third": shared})


@pytest.mark.parametrize("rows", [100, 60])
def test_two_samplers_with_one_key_are_refused(rows):
    # With other rows the draws of a row still come from the same numbers.
    with pytest.raises(UsageError, match="one event"):
        check_own_batches({"first": sampler(KEY), "second": sampler(key_for_tests(1), rows)})


def test_samplers_with_separate_keys_are_accepted():
    check_own_batches({name: sampler(KEY.derive(name)) for name in "abc"})
    check_own_batches({name: sampler(secret_key()) for name in "abc"})
    check_own_batches({})


def test_shared_shuffled_epochs_are_accepted():
    shared = ShuffledEpochs(np.arange(100), 10, 0)
    check_own_batches({"first": shared, "second": shared, "third": sampler(KEY)})


def test_mechanism_of_several_updates_has_merged_noise():
    batches = sampler(KEY)
    merged = batches.mechanism(1.5, 2.0, 4.0)
    # 1.5^-2 + 2^-2 + 4^-2 = 0.444... + 0.25 + 0.0625 = 0.7569...
    assert merged.noise_multiplier == pytest.approx(0.756944444**-0.5)
    assert merged.noise_multiplier == merged_noise([1.5, 2.0, 4.0])
    assert merged.sampling_probability == 0.1 and merged.rows == 100
    assert merged.overflow_probability == batches.overflow_probability
    assert batches.mechanism(0.0).noise_multiplier == 0.0
    with pytest.raises(UsageError, match="each > 0"):
        batches.mechanism(1.5, 0.0)


def test_shared_batch_counted_as_two_would_underestimate_epsilon():
    batches, steps, delta = sampler(KEY), 50, 1e-5
    merged = epsilon([MechanismRun(batches.mechanism(2.0, 2.0), steps)], delta)
    assert merged == pytest.approx(reference_epsilon([(2**0.5, 0.1, steps)], delta), rel=1e-3)
    # The cost of two separate samplers would be an underestimate for a shared batch.
    apart = reference_epsilon([(2.0, 0.1, steps)] * 2, delta)
    assert apart < 0.97 * merged
