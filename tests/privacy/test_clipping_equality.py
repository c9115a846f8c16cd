"""The three backends give the same update, and it is the one worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.networks import (
    LAYERS,
    cross_entropy,
    dense_network,
    flat,
    initializer,
    rows,
    sgd_update,
    values,
)

BACKENDS = ("ghost", "vectorized", "per_example")


def by_hand(model, x, labels, clip, mask=None):
    """Row by row with a plain tape; clipped in NumPy; mean over all rows."""
    total = 0.0
    for row in range(len(x)):
        if mask is not None and not mask[row]:
            continue
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels[row : row + 1])(model(x[row : row + 1], training=True))
        raw = [v.value for v in model.trainable_variables]
        gradient = flat([g.numpy() for g in tape.gradient(loss, raw)]).astype(np.float64)
        total += gradient / max(1.0, np.linalg.norm(gradient) / clip)
    return total / len(x)


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
    found = [flat(sgd_update(model, x, loss, clip, mask, clipping=b)[0]) for b in BACKENDS]
    expected = by_hand(model, x, labels, clip, mask)
    for name, update in zip(BACKENDS, found, strict=True):
        np.testing.assert_allclose(update, expected, atol=1e-5 * max(1, clip), err_msg=name)
    # Backends differ by the rounding of float32 gradients, which grows with the gradients: with
    # hardly any clipping their entries reach 4 and more, and differed by up to 3e-6 of that.
    tolerance = 1e-5 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found[0], found[1], atol=tolerance)
    np.testing.assert_allclose(found[0], found[2], atol=tolerance)


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
    found = [flat(sgd_update(model, x, loss, clip, clipping=b)[0]) for b in ("ghost", "vectorized")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], by_hand(model, x, labels, clip), atol=1e-5)


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
def test_clipping_is_numpys(backend):
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
def test_a_masked_row_adds_exactly_nothing(backend, garbage):
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
def test_a_row_that_is_not_finite_adds_nothing_and_spoils_no_other(backend, garbage):
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
def test_the_sum_is_divided_by_the_expected_batch_size(backend):
    model = dense_network((3, 2))
    x, labels = rows(6, (3,))
    loss = cross_entropy(labels)
    update, _ = sgd_update(model, x, loss, 1.0, clipping=backend)
    other, _ = sgd_update(model, x, loss, 1.0, clipping=backend, expected_batch_size=2.5)
    np.testing.assert_allclose(flat(other), flat(update) * 6 / 2.5, rtol=1e-4, atol=1e-7)


def test_large_batches_go_in_chunks_and_give_the_same(monkeypatch):
    from tf_mtl_privacy.privacy.clipping import request

    inputs = keras.Input((6, 6, 2))
    x = LAYERS.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, LAYERS.Dense(3)(LAYERS.Flatten()(x)))
    data, labels = rows(11, (6, 6, 2), 3)
    whole, _ = sgd_update(model, data, cross_entropy(labels), 0.3)
    monkeypatch.setattr(request, "_FLOATS_AT_ONCE", 1600)  # four rows at a time, the last overlaps
    parts, _ = sgd_update(model, data, cross_entropy(labels), 0.3)
    np.testing.assert_allclose(flat(parts), flat(whole), atol=1e-6)
    np.testing.assert_allclose(flat(parts), by_hand(model, data, labels, 0.3), atol=1e-6)


def test_gram_and_instantiated_norms_agree():
    from tf_mtl_privacy.privacy.clipping import contribution

    generator = np.random.default_rng(0)
    for positions, n, m in ((2, 30, 20), (20, 3, 2)):
        left = generator.normal(size=(4, positions, n)).astype(np.float32)
        right = generator.normal(size=(4, positions, m)).astype(np.float32)
        assert contribution.prefers_gram(positions, n, m) == (positions == 2)
        expected = (np.einsum("btn,btm->bnm", left, right) ** 2).sum(axis=(1, 2))
        found = contribution.product_norms(tf.constant(left), tf.constant(right))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
