import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import cross_entropy, dense_network, flat, rows, sgd_update, values
from tf_mtl_privacy.privacy import DPSGD, DPAdam


def without_noise(model, kind=DPAdam, **options):
    return kind(model, l2_norm_clip=1.0, noise_multiplier=0.0, allow_zero_noise=True, **options)


def test_one_step_without_noise_is_adam_on_the_clipped_mean():
    model, (x, labels) = dense_network(), rows(5, (3,))
    gradient = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    before = flat(values(model))
    without_noise(model, learning_rate=0.1).minimize(x, cross_entropy(labels))
    # Adam's first step: m/(1-b1) = g, sqrt(v/(1-b2)) = |g|; epsilon as tf-keras applies it.
    corrected = 0.1 * np.sqrt(1 - 0.999) / (1 - 0.9)
    update = corrected * (0.1 * gradient) / (np.sqrt(0.001 * gradient**2) + 1e-7)
    np.testing.assert_allclose(flat(values(model)), before - update, atol=2e-5)


def test_a_new_start_is_a_first_step_that_stays_counted():
    model, (x, labels) = dense_network(), rows(5, (3,))
    start, optimizer = values(model), without_noise(model, learning_rate=0.1)

    def step():
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        optimizer.minimize(x, cross_entropy(labels))
        return flat(values(model))

    first, second = step(), step()
    optimizer.restart()
    np.testing.assert_array_equal(step(), first)
    assert not np.array_equal(first, second) and optimizer.iterations == 3
    # What a checkpoint holds is enough to go on counting from there.
    other = without_noise(model, learning_rate=0.1)
    for kept, variable in zip(optimizer.variables, other.variables, strict=True):
        variable.assign(kept)
    assert other.iterations == 3


def test_momentum_adds_up():
    model, (x, labels) = dense_network(), rows(5, (3,))
    one = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    before = flat(values(model))
    optimizer = without_noise(model, DPSGD, learning_rate=1.0, momentum=0.9)
    optimizer.minimize(x, cross_entropy(labels))
    two = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    optimizer.minimize(x, cross_entropy(labels))
    np.testing.assert_allclose(before - flat(values(model)), one + 0.9 * one + two, atol=1e-5)


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
def test_inside_a_function_with_any_batch_size_it_is_the_same(clipping):
    model, (x, labels) = dense_network(), rows(5, (3,))
    eager = flat(sgd_update(model, x, cross_entropy(labels), 1.0, clipping=clipping)[0])
    before = flat(values(model))
    optimizer = without_noise(model, DPSGD, learning_rate=1.0, clipping=clipping)

    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32)])
    def step(x, labels):
        return optimizer.minimize(x, cross_entropy(labels), tf.ones_like(labels, tf.bool))

    assert step(x, labels).shape == (5,)
    np.testing.assert_allclose(before - flat(values(model)), eager, atol=1e-6)
    assert step(x[:2], labels[:2]).shape == (2,)


def test_a_step_size_that_is_assigned_holds_in_a_function_that_was_traced_before():
    model, (x, labels) = dense_network(), rows(5, (3,))
    optimizer = without_noise(model, DPSGD, learning_rate=1.0)
    step = tf.function(lambda: optimizer.minimize(x, cross_entropy(labels)))
    start = values(model)

    def moved(rate):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        optimizer.learning_rate = rate
        step()
        return flat(start) - flat(values(model))

    whole = moved(1.0)
    assert np.abs(whole).max() > 0.01
    np.testing.assert_allclose(moved(0.25), 0.25 * whole, atol=1e-6)
    assert not moved(0.0).any()


def test_its_variables_hold_the_moments():
    model, (x, labels) = dense_network(), rows(5, (3,))
    optimizer = DPAdam(model, learning_rate=0.1, l2_norm_clip=1.0, noise_multiplier=1.0)
    optimizer.minimize(x, cross_entropy(labels))
    shapes = sorted(str(v.shape) for v in optimizer.variables)
    # Step counter, steps before a new start, and two moments for the kernel and the bias.
    assert shapes == sorted(["()", "()", "(3, 2)", "(3, 2)", "(2,)", "(2,)"])
    assert [np.abs(v.numpy()).sum() > 0 for v in optimizer.variables] == [True] * 5 + [False]


def test_rows_that_are_not_finite_are_counted():
    model, (x, labels) = dense_network(), rows(5, (3,))
    x[1], x[3] = np.nan, np.inf
    mask = np.array([1, 1, 1, 0, 1], bool)
    optimizer = DPAdam(model, l2_norm_clip=1.0, noise_multiplier=1.0)
    losses = optimizer.minimize(x, cross_entropy(labels), mask)
    assert int(optimizer.skipped_rows) == 1
    assert np.isnan(losses[1]) and losses[3] == 0
    assert np.isfinite(flat(values(model))).all()


def test_a_batch_without_rows_that_count_only_adds_noise():
    model, (x, labels) = dense_network(), rows(5, (3,))
    before = flat(values(model))
    nobody = np.zeros(5, bool)
    without_noise(model, DPSGD).minimize(x, cross_entropy(labels), nobody)
    np.testing.assert_array_equal(before, flat(values(model)))
    DPSGD(model, l2_norm_clip=1.0, noise_multiplier=1.0).minimize(x, cross_entropy(labels), nobody)
    assert (before != flat(values(model))).all()


def test_the_learning_rate_can_be_changed():
    model, (x, labels) = dense_network(), rows(5, (3,))
    optimizer = without_noise(model, DPSGD, learning_rate=1.0)
    before = flat(values(model))
    optimizer.learning_rate = 0.0
    optimizer.minimize(x, cross_entropy(labels))
    np.testing.assert_array_equal(before, flat(values(model)))


def test_importing_privacy_loads_no_tensorflow(python):
    done = python(
        "-c",
        "import sys, tf_mtl_privacy.privacy as p; print('tensorflow' in sys.modules); "
        "print(p.DPAdam.__name__, 'tensorflow' in sys.modules)",
    )
    assert done.stdout.split() == ["False", "DPAdam", "True"], done.stderr[-1000:]


def test_the_plain_model_is_keras_3():
    assert isinstance(dense_network(), keras.Model) and keras.__version__.startswith("3.")
