"""The three heads: shapes, independence of rows, no checkerboard, per-example gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.models.heads import build_business, build_discriminator, build_restorer
from tf_mtl_privacy.models.layers import halvings, layer_seed, norm_groups

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
def test_heads_take_any_grid(grid):
    shape = (grid, grid, 4)
    assert build_business(shape, {"a": 3}, units=8)(_features(2, shape))["a"].shape == (2, 3)
    for kind in ("conv", "dense"):
        model = build_discriminator(shape, 5, shape=kind, units=8)
        assert model(_features(2, shape)).shape == (2, 5)


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_only_layers_whose_gradients_can_be_clipped_have_weights(shape):
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


def test_wide_features_do_not_blow_up_the_discriminator():
    assert build_discriminator((4, 4, 2048), 8, shape="conv", units=64).count_params() < 100_000


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_discriminator_learns_what_one_cell_tells(shape):
    """A class told by one of 64 cells is learned and holds for rows it was not trained on."""
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
def test_constant_features_give_no_checkerboard(stride):
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


def test_transposed_convolution_would_fail_that_check():
    """The control: the same check sees the checkerboard that a transposed convolution draws."""
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
