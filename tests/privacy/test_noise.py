import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.privacy.networks import cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.privacy import DPSGD
from tf_mtl_privacy.privacy.noise import SecretNoise

DRAWS = 100_000


def test_the_standard_deviation_is_the_one_asked_for():
    noise, stddev = SecretNoise(), 2.5
    values_ = flat(noise.draw([tf.TensorShape([DRAWS])], stddev)).astype(np.float64)
    # Two-sided chi-square test; a right generator fails it once in a million runs.
    tail = stats.chi2.cdf((values_**2).sum() / stddev**2, DRAWS)
    assert 5e-7 < tail < 1 - 5e-7
    assert stats.kstest(values_ / stddev, "norm").pvalue > 1e-6
    assert abs(values_.mean()) < 5 * stddev / np.sqrt(DRAWS)


def test_the_two_halves_of_a_draw_and_later_draws_are_uncorrelated():
    noise, shape = SecretNoise(), tf.TensorShape([DRAWS])
    one, two = (noise.draw([shape], 1.0)[0].numpy() for _ in range(2))
    first, second = one[: DRAWS // 2], one[DRAWS // 2 :]
    for a, b in ((one, two), (first, second), (np.abs(first), np.abs(second))):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))
    assert not np.isin(one, two).mean() > 0.2


@pytest.mark.parametrize("shapes", [[[3, 4], [5], []], [[1]], [[2, 3]]])
def test_shapes_and_odd_sizes(shapes):
    found = SecretNoise(3).draw([tf.TensorShape(s) for s in shapes], 1.0)
    assert [list(v.shape) for v in found] == shapes
    assert np.isfinite(flat(found)).all() and len(set(flat(found))) == len(flat(found))


def test_a_key_repeats_and_none_does_not():
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
def test_the_update_carries_noise_of_the_stated_size(clipping):
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
