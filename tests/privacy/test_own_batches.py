"""One batch, one event: which samplers may be accounted for as two, and what sharing costs."""

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, merged_noise
from tf_mtl_privacy.privacy.batch_selection import PoissonBatches, check_own_batches
from tf_mtl_privacy.privacy.keys import key_for_tests, secret_key

KEY = key_for_tests(4)


def sampler(key, rows=100, q=0.1):
    return PoissonBatches(np.arange(rows), q, key=key)


def test_a_shared_sampler_is_refused():
    shared = sampler(KEY)
    other = sampler(KEY.derive("other"))
    with pytest.raises(UsageError, match="first and third use the same Poisson batches"):
        check_own_batches({"first": shared, "second": other, "third": shared})


@pytest.mark.parametrize("rows", [100, 60])
def test_two_samplers_with_one_key_are_refused(rows):
    # With other rows the draws of a row still come from the same numbers.
    with pytest.raises(UsageError, match="one event"):
        check_own_batches({"first": sampler(KEY), "second": sampler(key_for_tests(4), rows)})


def test_keys_of_their_own_are_accepted():
    check_own_batches({name: sampler(KEY.derive(name)) for name in "abc"})
    check_own_batches({name: sampler(secret_key()) for name in "abc"})
    check_own_batches({})


def test_batches_of_which_nothing_is_assumed_may_be_shared():
    shared = ShuffledEpochs(np.arange(100), 10, 0)
    check_own_batches({"first": shared, "second": shared, "third": sampler(KEY)})


def test_keys_are_the_same_where_their_draws_are():
    assert KEY.same_as(key_for_tests(4)) and KEY.derive("a").same_as(KEY.derive("a"))
    others = [KEY.derive("a"), key_for_tests(5), secret_key()]
    assert not any(KEY.same_as(other) for other in others)
    system = secret_key()
    assert system.same_as(system) and not system.same_as(secret_key())
    for other in [key_for_tests(4), *others]:
        assert KEY.same_as(other) == bool((KEY.words(4, 7) == other.words(4, 7)).all())


def test_a_merged_event_has_the_noise_of_all_of_them():
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


def test_counting_a_shared_batch_as_two_would_promise_too_much():
    batches, steps, delta = sampler(KEY), 50, 1e-5
    merged = epsilon([MechanismRun(batches.mechanism(2.0, 2.0), steps)], delta)
    assert merged == pytest.approx(reference_epsilon([(2**0.5, 0.1, steps)], delta), rel=1e-3)
    # What two own samplers cost; on a shared batch it would be an under-estimate.
    apart = reference_epsilon([(2.0, 0.1, steps)] * 2, delta)
    assert apart < 0.97 * merged
