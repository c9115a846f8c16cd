"""Task classifier, discriminators and restorer: shapes, gradients, and values by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import sgd_update
from tf_mtl_privacy.models import losses
from tf_mtl_privacy.models.heads import (
    Whitening,
    build_business,
    build_discriminator,
    build_restorer,
)
from tf_mtl_privacy.models.layers import first_layer, halvings, layer_seed, norm_groups
from tf_mtl_privacy.privacy import assert_rows_independent

RNG = np.random.default_rng(1)
SHAPE = (8, 8, 16)


def _features(rows=3, shape=SHAPE):
    return RNG.normal(0, 1, (rows, *shape)).astype(np.float32)


def _discriminator(shape, units=16):
    return build_discriminator(SHAPE, 5, shape=shape, units=units)


def test_business_has_one_output_per_task():
    model = build_business(SHAPE, {"gender": 2, "age": 4}, units=16)
    logits = model(_features())
    assert {task: tuple(x.shape) for task, x in logits.items()} == {
        "gender": (3, 2),
        "age": (3, 4),
    }
    assert list(logits) == ["gender", "age"]


@pytest.mark.parametrize("grid", [2, 3, 32])
def test_heads_accept_any_grid(grid):
    shape = (grid, grid, 4)
    assert build_business(shape, {"a": 3}, units=8)(_features(2, shape))["a"].shape == (2, 3)
    for kind in ("conv", "dense"):
        model = build_discriminator(shape, 5, shape=kind, units=8)
        assert model(_features(2, shape)).shape == (2, 5)


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_discriminator_has_weights_only_in_clippable_layers(shape):
    allowed = (
        keras.layers.Dense,
        keras.layers.Conv2D,
        keras.layers.GroupNormalization,
        keras.layers.LayerNormalization,
    )
    weighted = [layer for layer in _discriminator(shape).layers if layer.weights]
    assert weighted and all(isinstance(layer, allowed) for layer in weighted)


def _per_example_gradients(model, features, labels):
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels, model(features, training=True)
        )
    return [g.numpy() for g in tape.jacobian(losses, variables)]


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_per_example_gradients_of_the_discriminator(shape):
    """Row i's gradient is that of row i alone, whatever the other rows are."""
    model = _discriminator(shape)
    features, labels = _features(4), np.array([0, 3, 1, 4])
    together = _per_example_gradients(model, features, labels)
    features[2:] = _features(2) * 50
    changed = _per_example_gradients(model, features, labels)
    alone = _per_example_gradients(model, features[:1], labels[:1])
    for a, b, c in zip(together, changed, alone, strict=True):
        np.testing.assert_allclose(a[:2], b[:2], atol=1e-6)
        np.testing.assert_allclose(a[:1], c, atol=1e-6)
        assert np.abs(a).max() > 0


def test_discriminator_on_wide_features_stays_small():
    assert build_discriminator((4, 4, 2048), 8, shape="conv", units=64).count_params() < 100_000


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_discriminator_learns_label_in_one_cell(shape):
    """A class visible in one of 64 cells is learned and recognised in unseen rows."""
    rng = np.random.default_rng(0)
    model = build_discriminator((8, 8, 4), 2, shape=shape, units=16, seed=3)
    model.compile(
        keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    labels = rng.integers(0, 2, 512)
    x = rng.normal(0, 0.3, (512, 8, 8, 4)).astype(np.float32)
    x[np.arange(512), 5, 2, labels] += 1.5
    model.fit(x[:384], labels[:384], epochs=8, batch_size=32, verbose=0, shuffle=False)
    accuracy = (model.predict(x[384:], verbose=0).argmax(axis=1) == labels[384:]).mean()
    assert accuracy > 0.9


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_restorer_gives_an_image(stride):
    restored = build_restorer((4, 4, 6), stride, width=8)(_features(2, (4, 4, 6)) * 20).numpy()
    assert restored.shape == (2, 4 * stride, 4 * stride, 3) and restored.dtype == np.float32
    assert restored.min() >= 0 and restored.max() <= 1 and restored.std() > 0.01


@pytest.mark.parametrize("stride", [4, 8])
def test_restorer_of_constant_features_has_no_checkerboard(stride):
    """Weights far from the initial ones, biases too: the interior is one flat colour."""
    model = build_restorer((24, 24, 6), stride, width=12)
    for variable in model.trainable_variables:
        scale = 0.5 if "bias" in variable.name else 2 * float(np.std(variable))
        variable.assign(RNG.normal(0, scale, variable.shape))
    constant = np.broadcast_to(RNG.normal(0, 1, 6), (1, 24, 24, 6)).astype(np.float32)
    before_sigmoid = keras.Model(model.input, model.get_layer("logits").output)
    edge = 8 * stride
    interior = before_sigmoid(constant).numpy()[0, edge:-edge, edge:-edge]
    assert np.abs(interior).max() > 1e-3
    assert np.ptp(interior, axis=(0, 1)).max() < 1e-4 * max(1.0, np.abs(interior).max())


def test_transposed_convolution_has_checkerboard():
    """Control: the same check finds the checkerboard of a transposed convolution."""
    layer = keras.layers.Conv2DTranspose(3, 3, strides=2, padding="same")
    out = layer(np.ones((1, 24, 24, 6), np.float32)).numpy()[0, 16:-16, 16:-16]
    assert np.ptp(out, axis=(0, 1)).max() > 1e-2


def test_layer_seed():
    assert layer_seed(0, "a/b") == layer_seed(0, "a/b")
    assert len({layer_seed(s, n) for s in range(20) for n in "abcdefghij"}) == 200
    assert all(0 <= layer_seed(s, "a") < 2**31 for s in range(100))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (7, 1), (16, 2), (24, 3), (32, 4), (64, 8), (96, 8), (13, 1)]
)
def test_norm_groups(channels, groups):
    assert norm_groups(channels) == groups


@pytest.mark.parametrize(
    ("cells", "count"), [(1, 0), (4, 0), (5, 1), (8, 1), (12, 2), (16, 2), (17, 3), (32, 3)]
)
def test_halvings(cells, count):
    assert halvings(cells) == count


def soft(shape=(8, 8, 6), whitened=False):
    return build_discriminator(shape, 5, shape="soft", units=16, whitened=whitened)


def soft_features(rows=4):
    return np.random.default_rng(0).normal(size=(rows, 8, 8, 6)).astype(np.float32)


def test_soft_discriminator_weights_match_hand_calculation():
    # 3x3 6->4 with bias and a norm of 2x4; 3x3 4->8 with bias and a norm of 2x8; logits.
    expected = (9 * 24 + 4 + 8) + (9 * 32 + 8 + 16) + (8 * 5 + 5)
    assert soft().count_params() == expected
    # The same number on a finer grid: no weight depends on the position.
    assert soft((16, 16, 6)).count_params() == expected
    assert soft(whitened=True).count_params() == expected + 6 + 6 * 6


def test_soft_discriminator_weights_channels_by_their_softmax():
    model = soft()
    probe = keras.Model(model.inputs[0], [model.get_layer(n).output for n in ("relu2", "sum")])
    maps, actual = (np.array(part, np.float64) for part in probe(soft_features()))
    cells = maps.reshape(4, 64, 8)
    weights = np.exp(cells) / np.exp(cells).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(actual, (weights * cells).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("shape", ["conv", "dense", "pooled", "soft"])
def test_whitening_layer_starts_as_identity(shape):
    def built(whitened):
        return build_discriminator((8, 8, 6), 5, shape=shape, units=16, whitened=whitened)

    x, plain, model = soft_features(), built(False), built(True)
    np.testing.assert_allclose(model(x), plain(x), atol=1e-6)
    rng = np.random.default_rng(1)
    mean, matrix = rng.normal(size=6), rng.normal(size=(6, 6))
    layer = first_layer(model, Whitening)
    assert not layer.trainable_variables
    layer.set_weights([mean, matrix])
    changed = ((x - mean) @ matrix).astype(np.float32)
    np.testing.assert_allclose(model(x), plain(changed), atol=1e-4)
    assert first_layer(plain, Whitening) is None


POOLED_SHAPE = (8, 8, 6)


def pooled(units=16, shape=POOLED_SHAPE, seed=0):
    return build_discriminator(shape, 5, shape="pooled", units=units, seed=seed)


def pooled_features(rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *POOLED_SHAPE)).astype(np.float32)


def test_pooled_discriminator_weights_match_hand_calculation():
    # norm 2x6; reduce 6x8+8; twice 3x3 8->8 with bias and a norm of 2x8; attention 8x4+4; logits.
    expected = 12 + 56 + 2 * (9 * 64 + 8 + 16) + 36 + (4 * 8) * 5 + 5
    assert pooled().count_params() == expected
    # The same number on a finer grid: no weight depends on the position.
    assert pooled(shape=(16, 16, 6)).count_params() == expected
    assert pooled().output_shape == (None, 5)


def test_pooled_discriminator_ignores_scale_and_offset():
    x, model = pooled_features(), pooled()
    np.testing.assert_allclose(model(x), model(3 * x + 2), atol=1e-3)


def test_pooled_discriminator_attention_is_a_mean():
    model = pooled()
    parts = [model.get_layer(name).output for name in ("attention_weights", "cells", "pool")]
    probe = type(model)(model.inputs[0], parts)
    weights, cells, mean = (np.array(part) for part in probe(pooled_features()))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(mean, np.einsum("bnh,bnc->bhc", weights, cells), atol=1e-5)


CELLS = (8, 8, 6)
SHAPES = pytest.mark.parametrize("shape", ["conv", "dense", "pooled", "soft"])


def whitened(shape):
    """A discriminator with a whitening that is not the identity."""
    model = build_discriminator(CELLS, 5, shape=shape, units=16, whitened=True)
    rng = np.random.default_rng(1)
    first_layer(model, Whitening).set_weights([rng.normal(size=6), rng.normal(size=(6, 6))])
    return model


def features(rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *CELLS)).astype(np.float32)


@SHAPES
def test_discriminator_gradients_are_independent_of_other_rows(shape):
    assert_rows_independent(whitened(shape), tf.constant(features()))


@SHAPES
@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_private_update_of_discriminator_is_sum_of_clipped_rows(shape, clipping):
    x, labels, clip = features(), np.array([0, 3, 1, 4]), 0.3
    model = whitened(shape)
    variables = [v.value for v in model.trainable_variables]
    rows = []
    for row in range(4):
        with tf.GradientTape() as tape:
            logits = model(x[row : row + 1], training=True)
            loss = tf.reduce_logsumexp(logits) - logits[0, labels[row]]
        rows.append([np.array(g, np.float64) for g in tape.gradient(loss, variables)])
    norms = [np.sqrt(sum((part**2).sum() for part in row)) for row in rows]
    assert max(norms) > clip
    factors = [min(1.0, clip / norm) for norm in norms]
    expected = [
        sum(f * row[k] for f, row in zip(factors, rows, strict=True)) / 4
        for k in range(len(variables))
    ]
    actual, _ = sgd_update(
        model,
        tf.constant(x),
        lambda logits: losses.cross_entropy(logits, labels),
        clip,
        traced=True,
        clipping=clipping,
    )
    for step, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(step, wanted, atol=2e-5)
