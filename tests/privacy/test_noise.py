import concurrent.futures
import math
import os
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.privacy.networks import cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD
from tf_mtl_privacy.privacy.noise import SecretNoise, directions, radii
from tf_mtl_privacy.privacy.noise_record import MAX_WEIGHTS, UPDATE_TAIL, reach, tail_probability

DRAWS = 100_000


def words(*values):
    return tf.constant(np.array(values, np.uint64))


def radius(leading, second=0, third=0):
    """One radius from its 192 bits, through the shipped function."""
    return float(radii(words(leading), lambda: words(second, third)[:, None])[0])


def exact_radius(u):
    """sqrt(-2 ln u) of a fraction, by Python's logarithm of whole numbers."""
    if u > Fraction(1, 2):
        return math.sqrt(-2 * math.log1p(float(u - 1)))
    return math.sqrt(2 * (math.log(u.denominator) - math.log(u.numerator)))


LAST = 2**64 - 1


@pytest.mark.parametrize("leading", [0, 1, 2, 3, 1000, 2**31, 2**32 - 1])
@pytest.mark.parametrize(("second", "third"), [(0, 0), (0, LAST), (1, 7), (2**40, 0), (LAST, LAST)])
def test_extreme_radii_use_all_192_bits(leading, second, third):
    u = Fraction(leading * 2**128 + second * 2**64 + third + 1, 2**192)
    assert radius(leading, second, third) == pytest.approx(exact_radius(u), rel=1e-14)


@pytest.mark.parametrize("leading", [2**32, 2**33 + 1, 2**50, 2**62, 2**63, 2**63 + 2**40])
def test_ordinary_radii_are_exact(leading):
    u = Fraction(2 * leading + 1, 2**65)
    assert radius(leading) == pytest.approx(exact_radius(u), rel=1e-12)


def test_largest_radius_and_its_tail_are_the_accounted_ones():
    assert radius(0) == pytest.approx(reach(), rel=1e-14)
    assert reach() == pytest.approx(16.3147, abs=1e-4)
    # The reach of 23 bits, which this generator replaced.
    assert reach(23) == pytest.approx(5.6467, abs=1e-4)
    # exp(-r^2/2) is the mass of a Rayleigh radius beyond r.
    assert tail_probability(2) == pytest.approx(math.exp(-(reach() ** 2) / 2), rel=1e-12)
    assert tail_probability(1_000_001) == 500_001 * 2.0**-192
    assert tail_probability(MAX_WEIGHTS) == UPDATE_TAIL == 2.0**-160
    assert radius(LAST) == 0.0


@pytest.mark.parametrize("limit", [0.5, 2.0, 5.6, 5.7, 6.5, 8.0, 9.4])
def test_tail_has_the_mass_of_a_normal_pair(limit):
    # Radii fall as the first word grows: bisection counts all of the 2^64 words beyond the limit.
    low, high = 0, 2**64
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if radius(middle) > limit else (low, middle)
    # A first word without a radius beyond the limit may have one that depends on further words.
    mass = Fraction(high, 2**64)
    spread = Fraction(1, 2**64) if high <= 2**32 else 0
    expected = math.exp(-(limit**2) / 2)
    assert abs(float(mass) - expected) <= 1e-9 * expected + float(spread)


def test_draws_are_normal_with_the_stated_deviation():
    stddev = 2.5
    one, two = (
        part / stddev for part in SecretNoise().draw([tf.TensorShape([500_000])] * 2, stddev)
    )
    draws = np.concatenate([one, two])
    # Two-sided chi-square test; a correct generator fails it once in a million runs.
    assert 5e-7 < stats.chi2.cdf((draws**2).sum(), len(draws)) < 1 - 5e-7
    assert abs(draws.mean()) < 5 / np.sqrt(len(draws))
    halves = (one.numpy() ** 2 + two.numpy() ** 2) / 2
    for value, law in ((draws, stats.norm), (halves, stats.expon)):
        assert stats.kstest(value, law.cdf).pvalue > 1e-6
    # Two-sided exact test of how many lie beyond 3.5 standard deviations, on either side.
    for side in (draws, -draws):
        beyond = stats.binomtest(int((side > 3.5).sum()), len(side), stats.norm.sf(3.5))
        assert beyond.pvalue > 1e-6
    assert stats.kurtosis(draws) == pytest.approx(0, abs=6 * math.sqrt(24 / len(draws)))


def test_directions_are_cosine_and_sine():
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, LAST, 10_000, np.uint64, endpoint=True)
    chosen[:4] = 0, 2**62, 2**63, LAST
    angle = (
        chosen.astype(np.longdouble) / np.longdouble(2) ** 64 * (2 * np.arccos(np.longdouble(-1)))
    )
    for result, expected in zip(
        directions(words(*chosen)), (np.cos(angle), np.sin(angle)), strict=True
    ):
        np.testing.assert_allclose(result, expected.astype(np.float64), atol=2e-15)


def test_rare_draw_takes_words_of_no_other_draw(monkeypatch):
    noise, size = SecretNoise(5), 64
    taken = []
    drawn = noise._words

    def small(pairs, counter):
        result = drawn(pairs, counter)
        taken.append(result.numpy().ravel())
        # Its first 40 bits are zero, so that further words are needed.
        return result if len(taken) % 2 == 0 else tf.stack([result[0] % 2**24, result[1]])

    monkeypatch.setattr(noise, "_words", small)
    values_ = [noise.draw([tf.TensorShape([size])], 1.0)[0].numpy() for _ in range(2)]
    assert len(taken) == 4 and len(np.unique(np.concatenate(taken))) == 4 * size
    for value in values_:
        pairs = np.hypot(value[: size // 2], value[size // 2 :])
        assert (pairs > reach(40)).all() and (pairs < reach()).all()


@pytest.mark.parametrize("traced", [False, True])
def test_concurrent_threads_never_draw_the_same_noise(traced):
    noise, shape = SecretNoise(), tf.TensorShape([200_001])

    def first():
        return noise.draw([shape], 1.0)[0][0]

    draw = tf.function(first) if traced else first
    draw()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        result = [float(value) for value in pool.map(lambda _: draw(), range(80))]
    assert len(set(result)) == 80


def test_counter_passes_every_used_block():
    """Also for draws that are not multiples of the stride, and in a loop that runs ahead."""
    noise, pairs = SecretNoise(5), 1001

    @tf.function
    def counters():
        return tf.map_fn(
            lambda _: noise._take_counter(2 * pairs),
            tf.range(20),
            fn_output_signature=tf.uint64,
            parallel_iterations=20,
        )

    starts = np.sort(counters().numpy()[:, 0].astype(np.int64))
    assert (np.diff(starts) >= 2 * pairs).all()


@pytest.mark.parametrize("stddev", [0.003, 1.0, 700.0])
def test_noised_sum_is_on_one_grid_for_any_sum(stddev):
    rng = np.random.default_rng(1)
    size, clip = 20_001, 2 * stddev
    # Values near zero are where float32 has finer numbers than elsewhere.
    sums = np.concatenate([np.zeros(5000), rng.normal(size=5000), 1e-9 * rng.normal(size=10_001)])
    sums = (stddev * sums).astype(np.float32)
    result = SecretNoise(3).add([tf.constant(sums)], [tf.TensorShape([size])], clip, stddev)[0]
    assert result.dtype == tf.float32
    grid = 2.0 ** (math.floor(math.log2(stddev)) - 24)
    steps = result.numpy().astype(np.float64) / grid
    np.testing.assert_array_equal(steps, np.round(steps))
    # Added as whole numbers, so the noise is independent of the sum.
    nothing = (
        SecretNoise(3)
        .add([tf.zeros([size])], [tf.TensorShape([size])], clip, stddev)[0]
        .numpy()
        .astype(np.float64)
    )
    np.testing.assert_allclose(result - nothing, sums, atol=grid * 2**4)


def test_noise_is_larger_by_the_rounding_of_the_sum():
    size, clip, stddev = 400, 2.0**-16, 1.0
    result = (
        SecretNoise(4).add([tf.zeros([size])], [tf.TensorShape([size])], clip, stddev)[0].numpy()
    )
    drawn = SecretNoise(4).draw([tf.TensorShape([size])], 1.0)[0].numpy()
    # Rounding moves 400 values by up to half a grid step each, in both tables: 20 steps of 2^-24.
    # A hundred-thousandth is for the sum's own rounding.
    factor = 1 + 1e-5 + 20 * 2.0**-24 / clip
    np.testing.assert_allclose(result, drawn * factor, atol=2.0**-21)


def test_more_weights_than_the_tail_covers_are_refused():
    with pytest.raises(UsageError, match="at most 8,589,934,592"):
        SecretNoise().draw([tf.TensorShape([2**33]), tf.TensorShape([1])], 1.0)


def test_draws_are_uncorrelated():
    noise, shape = SecretNoise(), tf.TensorShape([DRAWS])
    one, two = (noise.draw([shape], 1.0)[0].numpy() for _ in range(2))
    first, second = one[: DRAWS // 2], one[DRAWS // 2 :]
    for a, b in ((one, two), (first, second), (np.abs(first), np.abs(second))):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))
    assert not np.isin(one, two).mean() > 0.2


@pytest.mark.parametrize("shapes", [[[3, 4], [5], []], [[1]], [[2, 3]]])
def test_draw_gives_the_requested_shapes(shapes):
    result = SecretNoise(3).draw([tf.TensorShape(s) for s in shapes], 1.0)
    assert [list(v.shape) for v in result] == shapes
    assert np.isfinite(flat(result)).all() and len(set(flat(result))) == len(flat(result))


def test_draw_repeats_with_a_key_only():
    shape = [tf.TensorShape([8])]
    np.testing.assert_array_equal(
        SecretNoise(7).draw(shape, 1.0)[0], SecretNoise(7).draw(shape, 1.0)[0]
    )
    assert not np.allclose(SecretNoise(7).draw(shape, 1.0)[0], SecretNoise(8).draw(shape, 1.0)[0])
    assert not np.allclose(
        SecretNoise(7).draw(shape, 1.0)[0], SecretNoise(7 + 2**64).draw(shape, 1.0)[0]
    )
    assert not np.allclose(SecretNoise().draw(shape, 1.0)[0], SecretNoise().draw(shape, 1.0)[0])


SCRIPT = """
import keras, numpy as np, tensorflow as tf
from tests.privacy.networks import dense_network, rows, cross_entropy, values, flat
from tf_mtl_privacy.privacy import DPSGD
keras.utils.set_random_seed(1); tf.random.set_seed(1)
tf.config.experimental.enable_op_determinism()
model, (x, y) = dense_network((3, 2)), rows(5, (3,))
for clipping in ("ghost", "vectorized", "per_example"):
    optimizer = DPSGD(model, l2_norm_clip=1.0, noise_multiplier=1.0, clipping=clipping)
    tf.function(lambda: optimizer.minimize(x, cross_entropy(y)))()
    print(" ".join(f"{v:.5f}" for v in flat(values(model))))
"""


@pytest.mark.slow
def test_processes_with_the_same_global_seed_draw_different_noise(session_python):
    one, two = (
        session_python("-c", SCRIPT, env={"PYTHONPATH": os.environ["PYTHONPATH"]}) for _ in range(2)
    )
    assert one.returncode == 0, one.stderr[-2000:]
    lines = [run.stdout.splitlines() for run in (one, two)]
    assert len(lines[0]) == len(lines[1]) == 3
    assert all(a != b for a, b in zip(*lines, strict=True))


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
def test_update_carries_noise_of_the_stated_size(clipping):
    model = dense_network((200, 100))
    x, labels = rows(4, (200,), 100)
    clip, multiplier, expected = 0.01, 3.0, 8.0
    before = values(model)
    optimizer = DPSGD(
        model,
        learning_rate=1.0,
        l2_norm_clip=clip,
        noise_multiplier=multiplier,
        expected_batch_size=expected,
        clipping=clipping,
    )
    optimizer.minimize(x, cross_entropy(labels))
    noise = flat(before).astype(np.float64) - flat(values(model))
    # The four clipped gradients together add at most (4 * clip / expected)^2 to the sum of squares.
    stddev = clip * multiplier / expected
    spread = 6 * np.sqrt(2 * noise.size) * stddev**2 + (4 * clip / expected) ** 2
    assert abs((noise**2).sum() - noise.size * stddev**2) < spread


def test_neither_key_nor_counter_is_in_the_checkpointed_variables():
    optimizer = DPSGD(dense_network(), l2_norm_clip=1.0, noise_multiplier=1.0, momentum=0.9)
    assert optimizer.variables and all(v.dtype != tf.uint64 for v in optimizer.variables)
    assert keras.backend.backend() == "tensorflow"
