import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.optimizer import DPAdam


def linear(features=3, classes=2):
    inputs = keras.Input((features,))
    layer = keras.layers.Dense(classes, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    return keras.Model(inputs, layer(inputs))


def data(rows=5, features=3, classes=2):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, features)).astype(np.float32) * 3
    return x, generator.integers(0, classes, rows)


def losses(model, x, y):
    return lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x))


def clipped_mean_gradient(model, x, y, clip):
    """NumPy: per-example gradients of softmax regression, clipped jointly, averaged."""
    weight, bias = (v.numpy().astype(np.float64) for v in model.trainable_variables)
    logits = x.astype(np.float64) @ weight + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    delta = p - np.eye(p.shape[1])[y]
    kernel, bias_gradient = x[:, :, None] * delta[:, None, :], delta
    norms = np.sqrt((kernel**2).sum(axis=(1, 2)) + (bias_gradient**2).sum(axis=1))
    factor = 1 / np.maximum(1, norms / clip)
    return (
        (kernel * factor[:, None, None]).mean(axis=0),
        (bias_gradient * factor[:, None]).mean(axis=0),
        norms,
    )


def test_one_step_without_noise_is_adam_on_the_clipped_mean():
    model, (x, y) = linear(), data()
    kernel, bias, norms = clipped_mean_gradient(model, x, y, clip=1.0)
    assert (norms > 1).any() and (norms < 1).any()
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = DPAdam(
        model.trainable_variables,
        learning_rate=0.1,
        l2_norm_clip=1.0,
        noise_multiplier=0.0,
        allow_zero_noise=True,
    )
    optimizer.minimize(losses(model, x, y))
    for old, new, gradient in zip(before, model.trainable_variables, (kernel, bias), strict=True):
        # Adam's first step: m/(1-b1) = g, sqrt(v/(1-b2)) = |g|; epsilon as tf-keras applies it.
        corrected = 0.1 * np.sqrt(1 - 0.999) / (1 - 0.9)
        update = corrected * (0.1 * gradient) / (np.sqrt(0.001 * gradient**2) + 1e-7)
        np.testing.assert_allclose(new.numpy(), old - update, atol=2e-5)


def test_noise_is_added_and_differs_between_steps_and_from_run_to_run():
    model, (x, y) = linear(), data()
    start = [v.numpy() for v in model.trainable_variables]
    ends = []
    for _ in range(2):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        optimizer = DPAdam(
            model.trainable_variables, learning_rate=0.1, l2_norm_clip=1.0, noise_multiplier=1.0
        )
        for _ in range(3):
            optimizer.minimize(losses(model, x, y))
        ends.append(np.concatenate([v.numpy().ravel() for v in model.trainable_variables]))
    assert not np.allclose(ends[0], ends[1])


def test_a_row_whose_loss_is_zero_changes_nothing():
    x, y = data()
    ends = []
    for garbage in (0.0, 1e3):
        model = linear()
        x_garbage = x.copy()
        x_garbage[2] = garbage
        mask = np.array([1, 1, 0, 1, 1], np.float32)
        optimizer = DPAdam(
            model.trainable_variables,
            learning_rate=0.1,
            l2_norm_clip=1.0,
            noise_multiplier=0.0,
            allow_zero_noise=True,
        )
        plain = losses(model, x_garbage, y)
        optimizer.minimize(lambda plain=plain, mask=mask: plain() * mask)
        ends.append(np.concatenate([v.numpy().ravel() for v in model.trainable_variables]))
    np.testing.assert_array_equal(ends[0], ends[1])


def test_a_reduced_loss_is_refused():
    model, (x, y) = linear(), data()
    optimizer = DPAdam(
        model.trainable_variables, learning_rate=0.1, l2_norm_clip=1.0, noise_multiplier=1.0
    )
    with pytest.raises(UsageError, match="one value per example"):
        optimizer.minimize(lambda: tf.reduce_mean(losses(model, x, y)()))


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_clip_that_bounds_nothing_is_refused(clip):
    with pytest.raises(UsageError, match="l2_norm_clip"):
        DPAdam(
            linear().trainable_variables, learning_rate=0.1, l2_norm_clip=clip, noise_multiplier=1.0
        )


@pytest.mark.parametrize(("noise", "allowed"), [(0.0, False), (-1.0, True), (-1.0, False)])
def test_noise_that_hides_nothing_is_refused(noise, allowed):
    with pytest.raises(UsageError, match="noise_multiplier"):
        DPAdam(
            linear().trainable_variables,
            learning_rate=0.1,
            l2_norm_clip=1.0,
            noise_multiplier=noise,
            allow_zero_noise=allowed,
        )


def test_its_variables_hold_the_moments():
    model, (x, y) = linear(), data()
    optimizer = DPAdam(
        model.trainable_variables, learning_rate=0.1, l2_norm_clip=1.0, noise_multiplier=1.0
    )
    optimizer.minimize(losses(model, x, y))
    shapes = sorted(str(v.shape) for v in optimizer.variables)
    # Step counter, and two moments for the kernel and the bias.
    assert shapes == sorted(["()", "(3, 2)", "(3, 2)", "(2,)", "(2,)"])
    assert all(np.abs(v.numpy()).sum() > 0 for v in optimizer.variables)
