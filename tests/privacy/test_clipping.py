"""The three backends give the same update, and it is that of a loop over rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.networks import (
    BACKENDS,
    LAYERS,
    cross_entropy,
    dense_network,
    flat,
    initializer,
    loop_over_rows,
    rows,
    sgd_update,
    values,
)
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD


def conv_layer(draw, number):
    strides, dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 1)]))
    options = {
        "strides": strides,
        "dilation_rate": dilation,
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from([None, "relu", "tanh"])),
    }
    size = draw(st.sampled_from([1, 2, 3]))
    if draw(st.booleans()):
        return LAYERS.Conv2D(
            draw(st.sampled_from([2, 6])), size, kernel_initializer=initializer(number), **options
        )
    return LAYERS.DepthwiseConv2D(size, depth_multiplier=draw(st.sampled_from([1, 2])), **options)


def norm_layer(draw, channels):
    kind = draw(st.sampled_from(["none", "layer", "group", "layer_all"]))
    flags = {"center": draw(st.booleans()), "scale": draw(st.booleans())}
    if kind == "layer":
        return LAYERS.LayerNormalization(**flags)
    if kind == "layer_all":
        return LAYERS.LayerNormalization(axis=[1, 2, 3], **flags)
    if kind == "group":
        return LAYERS.GroupNormalization(draw(st.sampled_from([1, channels])), **flags)
    return LAYERS.Activation("linear")


@st.composite
def networks(draw):
    side = draw(st.integers(7, 9))
    x = inputs = keras.Input((side, side, draw(st.integers(1, 3))))
    for number in range(draw(st.integers(1, 2))):
        layer = conv_layer(draw, number)
        if min(x.shape[1:3]) < 6 and layer.padding == "valid":
            continue
        x = layer(x)
        x = norm_layer(draw, x.shape[-1])(x)
    if draw(st.booleans()):
        x = LAYERS.Reshape((-1, x.shape[-1]))(x)
        x = LAYERS.Dense(draw(st.integers(1, 4)), activation="tanh")(x)
    x = LAYERS.Flatten()(x)
    return keras.Model(inputs, LAYERS.Dense(3, kernel_initializer=initializer(9))(x))


@settings(max_examples=12, deadline=None)
@given(networks(), st.integers(0, 1000), st.sampled_from([0.05, 1.0, 100.0]))
@pytest.mark.slow
def test_backends_agree_on_random_networks(model, seed, clip):
    x, labels = rows(5, model.input_shape[1:], 3, seed)
    mask = np.random.default_rng(seed).random(5) < 0.8
    loss = cross_entropy(labels)
    updates = [flat(sgd_update(model, x, loss, clip, mask, clipping=b)[0]) for b in BACKENDS]
    expected = loop_over_rows(model, x, labels, clip, mask)
    for name, update in zip(BACKENDS, updates, strict=True):
        np.testing.assert_allclose(update, expected, atol=1e-5 * max(1, clip), err_msg=name)
    # Backends differ by the rounding of float32 gradients, which grows with the gradients: with
    # hardly any clipping their entries reach 4 and more, and differed by up to 3e-6 of that.
    tolerance = 1e-5 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(updates[0], updates[1], atol=tolerance)
    np.testing.assert_allclose(updates[0], updates[2], atol=tolerance)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.integers(0, 1000),
    st.sampled_from([0.01, 1.0, 1e4]),
)
def test_ghost_and_vectorized_agree_on_random_dense_networks(sizes, seed, clip):
    model = dense_network((*sizes, 3))
    x, labels = rows(6, (sizes[0],), 3, seed)
    loss = cross_entropy(labels)
    updates = [
        flat(sgd_update(model, x, loss, clip, clipping=b)[0]) for b in ("ghost", "vectorized")
    ]
    np.testing.assert_allclose(updates[0], updates[1], atol=1e-5)
    np.testing.assert_allclose(updates[0], loop_over_rows(model, x, labels, clip), atol=1e-5)


def numpy_softmax_regression(model, x, labels, clip):
    weight, bias = (v.numpy().astype(np.float64) for v in model.trainable_variables)
    logits = x.astype(np.float64) @ weight + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    delta = p - np.eye(p.shape[1])[labels]
    kernel = x[:, :, None] * delta[:, None, :]
    norms = np.sqrt((kernel**2).sum(axis=(1, 2)) + (delta**2).sum(axis=1))
    factor = 1 / np.maximum(1, norms / clip)
    mean = [(kernel * factor[:, None, None]).mean(0), (delta * factor[:, None]).mean(0)]
    return mean, norms


@pytest.mark.parametrize("backend", BACKENDS)
def test_clipped_mean_equals_numpy(backend):
    model = dense_network((3, 2))
    x, labels = rows(5, (3,))
    expected, norms = numpy_softmax_regression(model, x, labels, 1.0)
    assert (norms > 1).any() and (norms < 1).any()
    update, losses = sgd_update(model, x, cross_entropy(labels), 1.0, clipping=backend)
    for got, wanted in zip(update, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    np.testing.assert_allclose(losses, cross_entropy(labels)(model(x)), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("garbage", [0.0, 1e30, np.nan, np.inf])
def test_masked_row_adds_exactly_nothing(backend, garbage):
    model = dense_network((3, 4, 2))
    x, labels = rows(5, (3,))
    mask = np.array([1, 1, 0, 1, 1], bool)
    update, _ = sgd_update(model, x, cross_entropy(labels), 1.0, mask, clipping=backend)
    x[2] = garbage
    other, losses = sgd_update(model, x, cross_entropy(labels), 1.0, mask, clipping=backend)
    np.testing.assert_array_equal(flat(update), flat(other))
    assert losses[2] == 0 and (losses[mask] > 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("garbage", [1e30, np.nan, np.inf])
def test_row_that_is_not_finite_adds_nothing_and_changes_no_other(backend, garbage):
    model = dense_network((3, 4, 2), activation="relu")
    x, labels = rows(5, (3,))
    x[2] = garbage
    mask = np.array([1, 1, 0, 1, 1], bool)
    wanted, _ = sgd_update(model, x, cross_entropy(labels), 1.0, mask, clipping=backend)
    assert np.abs(flat(wanted)).max() > 0.01
    before = flat(values(model))
    if np.isfinite(garbage) and backend == "per_example":
        with pytest.raises(tf.errors.InvalidArgumentError, match="no update was made"):
            sgd_update(model, x, cross_entropy(labels), 1.0, clipping=backend)
        np.testing.assert_array_equal(before, flat(values(model)))
        return
    update, losses = sgd_update(model, x, cross_entropy(labels), 1.0, clipping=backend)
    np.testing.assert_allclose(flat(update), flat(wanted), atol=1e-6)
    assert np.isfinite(losses[mask]).all()
    assert np.isnan(losses[2]) or np.isfinite(garbage)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sum_is_divided_by_the_expected_batch_size(backend):
    model = dense_network((3, 2))
    x, labels = rows(6, (3,))
    loss = cross_entropy(labels)
    update, _ = sgd_update(model, x, loss, 1.0, clipping=backend)
    other, _ = sgd_update(model, x, loss, 1.0, clipping=backend, expected_batch_size=2.5)
    np.testing.assert_allclose(flat(other), flat(update) * 6 / 2.5, rtol=1e-4, atol=1e-7)


def branching():
    """Nested models, branches that meet, a frozen layer, two inputs."""
    left, right = keras.Input((6,)), keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), LAYERS.Dense(5, "gelu"), LAYERS.Dense(6)])
    a = LAYERS.Add()([inner(left), left])
    b = LAYERS.Dense(6, trainable=False)(right) * 0.5
    x = LAYERS.Concatenate()([a, LAYERS.LeakyReLU()(b)])
    return keras.Model([left, right], LAYERS.Dense(3)(x))


def two_outputs():
    inputs = keras.Input((6,))
    x = LAYERS.Dense(5, "relu")(inputs)
    return keras.Model(inputs, {"a": LAYERS.Dense(2)(x), "b": LAYERS.Dense(3)(x)})


def unseen_normalization():
    """The loss does not depend on the second output, which has weights of its own."""
    inputs = keras.Input((6,))
    seen = LAYERS.Dense(2)(LAYERS.GroupNormalization(2)(inputs))
    return keras.Model(inputs, {"a": seen, "unseen": LAYERS.GroupNormalization(3)(inputs)})


def sequential():
    return keras.Sequential([keras.Input((6,)), LAYERS.Dense(3, "relu"), LAYERS.Dense(2)])


@pytest.mark.parametrize("make", [branching, two_outputs, unseen_normalization, sequential])
def test_models_of_any_structure_equal_a_loop_over_rows(make):
    model = make()
    x = [rows(5, (6,), seed=seed)[0] for seed in range(len(model.inputs))]
    x = x if len(x) > 1 else x[0]

    def loss(outputs):
        parts = outputs if isinstance(outputs, dict) else {"a": outputs}
        return tf.add_n([tf.reduce_sum((parts[n] - 1) ** 2, 1) for n in parts if n != "unseen"])

    expected = loop_over_rows(model, x, loss, 0.5)
    assert np.abs(expected).max() > 1e-2
    for backend in BACKENDS:
        update = flat(sgd_update(model, x, loss, 0.5, clipping=backend)[0])
        np.testing.assert_allclose(update, expected, atol=1e-6, err_msg=backend)


def test_dropout_runs_in_training_mode_and_its_gradient_is_of_one_pass():
    inputs = keras.Input((50,))
    model = keras.Model(inputs, LAYERS.Dense(1)(LAYERS.Dropout(0.5, seed=3)(inputs)))
    x = np.ones((2, 50), np.float32)
    for backend in BACKENDS:
        (kernel, _), _ = sgd_update(model, x, lambda z: z[:, 0], 1e6, clipping=backend)
        # A kept input counts twice, a dropped one not at all: mean over two rows.
        assert set(np.round(kernel.ravel(), 5)) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("clipping", BACKENDS)
def test_traced_update_of_any_batch_size_equals_the_eager_one(clipping):
    model, (x, labels) = dense_network(), rows(5, (3,))
    eager = flat(sgd_update(model, x, cross_entropy(labels), 1.0, clipping=clipping)[0])
    before = flat(values(model))
    optimizer = DPSGD(
        model,
        learning_rate=1.0,
        l2_norm_clip=1.0,
        noise_multiplier=0.0,
        allow_zero_noise=True,
        clipping=clipping,
    )

    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32)])
    def step(x, labels):
        return optimizer.minimize(x, cross_entropy(labels), tf.ones_like(labels, tf.bool))

    assert step(x, labels).shape == (5,)
    np.testing.assert_allclose(before - flat(values(model)), eager, atol=1e-6)
    assert step(x[:2], labels[:2]).shape == (2,)


def test_unknown_backend_is_refused():
    with pytest.raises(UsageError, match="clipping='fast'"):
        DPSGD(dense_network(), l2_norm_clip=1.0, noise_multiplier=1.0, clipping="fast")
