"""A batch of 0 rows is an update of noise alone, or is refused; weights never become NaN."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS, cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD
from tf_mtl_privacy.privacy.noise import SecretNoise

BACKENDS = ("ghost", "vectorized", "per_example")
CLIP, NOISE, SIZE, RATE = 0.5, 2.0, 8.0, 0.25
# What the noise is larger by, for the rounding of a clipped sum.
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
def test_a_batch_of_no_rows_moves_the_weights_by_the_noise_alone(name, clipping, traced):
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
def test_a_batch_of_no_rows_without_a_divisor_is_refused_and_moves_nothing(clipping, noise):
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
def test_a_batch_that_is_masked_altogether_adds_noise_alone(clipping, size):
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
def test_a_mask_that_is_not_one_value_per_row_is_refused(shape):
    model, (x, labels) = dense_network(), rows(4, (3,))
    optimizer = private(model, None, "ghost")
    with pytest.raises(UsageError, match="one value per row"):
        optimizer.minimize(x, cross_entropy(labels), np.ones(shape, bool))
    assert optimizer.iterations == 0
