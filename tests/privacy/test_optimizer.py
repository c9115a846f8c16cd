"""Update rules, counters and batches without rows of the private optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import (
    LAYERS,
    cross_entropy,
    dense_network,
    flat,
    rows,
    sgd_update,
    values,
)
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD, DPAdam
from tf_mtl_privacy.privacy.noise import SecretNoise
from tf_mtl_privacy.training.checkpoints import Checkpoints


def without_noise(model, kind=DPAdam, **options):
    return kind(model, l2_norm_clip=1.0, noise_multiplier=0.0, allow_zero_noise=True, **options)


def test_first_adam_step_without_noise_equals_the_formula():
    model, (x, labels) = dense_network(), rows(5, (3,))
    gradient = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    before = flat(values(model))
    without_noise(model, learning_rate=0.1).minimize(x, cross_entropy(labels))
    # Adam's first step: m/(1-b1) = g, sqrt(v/(1-b2)) = |g|; epsilon as tf-keras applies it.
    corrected = 0.1 * np.sqrt(1 - 0.999) / (1 - 0.9)
    update = corrected * (0.1 * gradient) / (np.sqrt(0.001 * gradient**2) + 1e-7)
    np.testing.assert_allclose(flat(values(model)), before - update, atol=2e-5)


def test_restart_repeats_the_first_step_and_keeps_the_count():
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
    # The variables in a checkpoint are enough to continue the count.
    other = without_noise(model, learning_rate=0.1)
    for kept, variable in zip(optimizer.variables, other.variables, strict=True):
        variable.assign(kept)
    assert other.iterations == 3


def test_momentum_adds_earlier_updates():
    model, (x, labels) = dense_network(), rows(5, (3,))
    one = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    before = flat(values(model))
    optimizer = without_noise(model, DPSGD, learning_rate=1.0, momentum=0.9)
    optimizer.minimize(x, cross_entropy(labels))
    two = flat(sgd_update(model, x, cross_entropy(labels), 1.0)[0])
    optimizer.minimize(x, cross_entropy(labels))
    np.testing.assert_allclose(before - flat(values(model)), one + 0.9 * one + two, atol=1e-5)


def test_assigned_rate_takes_effect_in_a_traced_function():
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


def test_variables_hold_counters_and_moments():
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


def test_importing_privacy_loads_no_tensorflow(python):
    done = python(
        "-c",
        "import sys, tf_mtl_privacy.privacy as p; print('tensorflow' in sys.modules); "
        "print(p.DPAdam.__name__, 'tensorflow' in sys.modules)",
    )
    assert done.stdout.split() == ["False", "DPAdam", "True"], done.stderr[-1000:]


def fresh(kind, **options):
    model = dense_network()
    optimizer = kind(model, l2_norm_clip=1.0, noise_multiplier=1.0, **options)
    return optimizer, {"model": model.variables, "optimizer": optimizer.variables}


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
def test_iterations_count_updates_and_are_restored(tmp_path, kind, clipping):
    optimizer, groups = fresh(kind, clipping=clipping)
    x, labels = rows(5, (3,))
    assert optimizer.iterations == 0
    for number in range(1, 4):
        optimizer.minimize(x, cross_entropy(labels))
        assert optimizer.iterations == number and isinstance(optimizer.iterations, int)
    Checkpoints(tmp_path, groups).save({})
    optimizer.minimize(x, cross_entropy(labels))
    again, groups = fresh(kind, clipping=clipping)
    assert again.iterations == 0
    Checkpoints(tmp_path, groups).restore()
    assert (again.iterations, optimizer.iterations) == (3, 4)


def test_iterations_count_traced_and_empty_updates():
    optimizer, _ = fresh(DPAdam)
    x, labels = rows(5, (3,))

    @tf.function
    def step(mask):
        return optimizer.minimize(x, cross_entropy(labels), mask)

    for mask in ([True] * 5, [False] * 5, [True] + [False] * 4):
        step(tf.constant(mask))
    # An update of noise alone is one, too: the accounting composes it.
    assert optimizer.iterations == 3


BACKENDS = ("ghost", "vectorized", "per_example")
CLIP, NOISE, SIZE, RATE = 0.5, 2.0, 8.0, 0.25
# Factor by which the noise is larger, for the rounding of a clipped sum.
CHARGED = 1 + 1e-5


def image_network():
    x = inputs = keras.Input((5, 5, 2))
    x = LAYERS.Conv2D(4, 3, activation="relu")(x)
    x = LAYERS.GroupNormalization(2)(x)
    x = LAYERS.DepthwiseConv2D(2)(x)
    x = LAYERS.LayerNormalization()(x)
    x = LAYERS.Flatten()(LAYERS.Dense(3)(x))
    return keras.Model(inputs, LAYERS.Dense(2)(LAYERS.Dropout(0.3)(x)))


def attention_network():
    x = inputs = keras.Input((5, 4))
    x = LAYERS.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(inputs, LAYERS.Dense(2)(LAYERS.GlobalAveragePooling1D()(x)))


NETWORKS = {
    "dense": (lambda: dense_network((3, 4, 2)), (3,), BACKENDS),
    "image": (image_network, (5, 5, 2), BACKENDS),
    "attention": (attention_network, (5, 4), BACKENDS[1:]),
}
CASES = [(name, clipping) for name, (_, _, known) in NETWORKS.items() for clipping in known]


def private(model, size, clipping, **options):
    options = {"l2_norm_clip": CLIP, "noise_multiplier": NOISE, "learning_rate": RATE} | options
    return DPSGD(model, expected_batch_size=size, clipping=clipping, **options)


def step_of(optimizer, shape):
    """A traced step that takes any number of rows."""
    signature = [tf.TensorSpec([None, *shape]), tf.TensorSpec([None], tf.int32)]
    return tf.function(
        lambda x, labels: optimizer.minimize(x, cross_entropy(labels)), input_signature=signature
    )


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize(("name", "clipping"), CASES)
def test_batch_of_no_rows_adds_noise_alone(name, clipping, traced):
    make, shape, _ = NETWORKS[name]
    model, (x, labels) = make(), rows(4, shape)
    optimizer = private(model, SIZE, clipping, noise_key=7)
    step = step_of(optimizer, shape)
    if not traced:
        step = lambda x, labels: optimizer.minimize(x, cross_entropy(labels))  # noqa: E731
    before = values(model)
    losses = step(tf.constant(x[:0]), tf.constant(labels[:0]))
    shapes = [variable.value.shape for variable in model.trainable_variables]
    noise = SecretNoise(7).draw(shapes, CLIP * NOISE * CHARGED)
    for old, new, draw in zip(before, values(model), noise, strict=True):
        np.testing.assert_allclose(new, old - RATE * draw.numpy() / SIZE, atol=1e-6)
    assert losses.shape == (0,) and optimizer.iterations == 1 and optimizer.skipped_rows == 0


@pytest.mark.parametrize("clipping", BACKENDS)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_batch_of_no_rows_without_a_divisor_is_refused(clipping, noise):
    model, (x, labels) = dense_network(), rows(4, (3,))
    optimizer = private(model, None, clipping, noise_multiplier=noise, allow_zero_noise=True)
    before = flat(values(model))
    with pytest.raises(UsageError, match="0 rows and no expected_batch_size"):
        optimizer.minimize(x[:0], cross_entropy(labels[:0]))
    fixed = tf.function(lambda x: optimizer.minimize(x, cross_entropy(labels[:0])))
    with pytest.raises(UsageError, match="0 rows and no expected_batch_size"):
        fixed(tf.constant(x[:0]))
    step = step_of(optimizer, (3,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 rows and no expected_batch_size"):
        step(tf.constant(x[:0]), tf.constant(labels[:0]))
    np.testing.assert_array_equal(flat(values(model)), before)
    assert optimizer.iterations == 0
    step(tf.constant(x), tf.constant(labels))
    assert optimizer.iterations == 1 and np.isfinite(flat(values(model))).all()


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("clipping", BACKENDS)
def test_fully_masked_batch_adds_noise_alone(clipping, size):
    model, (x, labels) = dense_network(), rows(4, (3,))
    optimizer = private(model, size, clipping, noise_key=3)
    before = values(model)
    optimizer.minimize(x * np.nan, cross_entropy(labels), np.zeros(4, bool))
    shapes = [v.value.shape for v in model.trainable_variables]
    noise = SecretNoise(3).draw(shapes, CLIP * NOISE * CHARGED)
    for old, new, draw in zip(before, values(model), noise, strict=True):
        np.testing.assert_allclose(new, old - RATE * draw.numpy() / (size or 4), atol=1e-6)
    assert optimizer.skipped_rows == 0


@pytest.mark.parametrize("shape", [(4, 1), (), (1,), (3,), (0,)])
def test_mask_that_is_not_one_value_per_row_is_refused(shape):
    model, (x, labels) = dense_network(), rows(4, (3,))
    optimizer = private(model, None, "ghost")
    with pytest.raises(UsageError, match="one value per row"):
        optimizer.minimize(x, cross_entropy(labels), np.ones(shape, bool))
    assert optimizer.iterations == 0
