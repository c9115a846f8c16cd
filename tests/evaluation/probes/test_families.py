"""Families of attackers against scikit-learn and on targets with a known answer."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.data import Inputs, ProbeData, balanced_accuracy
from tf_mtl_privacy.evaluation.probes.families import (
    boosted_trees,
    fit_network,
    logistic,
    nearest_neighbours,
)
from tf_mtl_privacy.evaluation.probes.networks import (
    dense_network,
    patch_cnn,
    positional_cnn,
    softmax_pool_cnn,
    with_batch_norm,
    with_same_weights,
)
from tf_mtl_privacy.models.heads import build_discriminator


@pytest.mark.parametrize("build", [patch_cnn, positional_cnn])
@pytest.mark.parametrize("shape", [(2, 2, 8), (16, 16, 4), (64, 64, 3)])
def test_cnns_take_maps_of_any_size(build, shape):
    model = build(shape, 5, width=4, seed=0)
    assert model.output_shape == (None, 5)
    assert any(isinstance(layer, keras.layers.GlobalMaxPooling2D) for layer in model.layers)


@pytest.mark.parametrize("shape", [(64, 64, 3), (66, 70, 1), (135, 130, 2)])
def test_patch_cnn_moves_cells_to_channels_without_loss(shape):
    """As many cells as TensorFlow's own rearrangement has, and the same numbers in them."""
    model = softmax_pool_cnn(shape, 5, width=4, seed=0)
    conv = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    seen = keras.Model(model.input, conv.input)
    rows = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = rows
    while min(expected.shape[1:3]) > 32:
        odd = [(0, 0), *((0, side % 2) for side in expected.shape[1:3]), (0, 0)]
        expected = tf.nn.space_to_depth(np.pad(expected, odd), 2).numpy()
    np.testing.assert_array_equal(seen(rows), expected)
    assert 16 <= min(expected.shape[1:3]) <= 32


@pytest.mark.parametrize(("channels", "sharpness"), [(4, [1.0]), (3, [1.0, 4.0])])
def test_softmax_pooling_equals_a_weighted_mean(channels, sharpness):
    model = softmax_pool_cnn((6, 5, channels), 3, width=4, seed=0)
    maps = next(layer for layer in model.layers[::-1] if isinstance(layer, keras.layers.ReLU))
    both = keras.Model(model.input, [maps.output, model.layers[-1].input])
    rows = np.random.default_rng(0).normal(size=(2, 6, 5, channels)).astype(np.float32)
    places, pooled = (np.asarray(part) for part in both(rows))
    flat = places.reshape(2, 30, -1).astype(np.float64)
    expected = []
    for sharp in sharpness:
        weights = np.exp(sharp * flat)
        expected.append((flat * weights).sum(axis=1) / weights.sum(axis=1))
    np.testing.assert_allclose(pooled, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_networks_depend_on_their_seed_only():
    cell = (8, 8, 2)
    for build in (
        functools.partial(patch_cnn, cell, 3, width=4),
        functools.partial(positional_cnn, cell, 3, width=4),
        functools.partial(softmax_pool_cnn, cell, 3, width=4),
        functools.partial(dense_network, 5, 3, units=4),
    ):
        first, same, other = (build(seed=seed).get_weights() for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
        assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("shape", ["conv", "dense"])
def test_with_batch_norm_has_new_weights(shape):
    before = build_discriminator((8, 8, 4), 3, shape=shape, units=8, seed=0)
    found = with_batch_norm(before, 5)
    kinds, old = ([type(layer).__name__ for layer in m.layers] for m in (found, before))
    assert kinds == [kind.replace("GroupNorm", "BatchNorm") for kind in old]
    assert found.output_shape == before.output_shape
    assert not np.array_equal(found.get_weights()[0], before.get_weights()[0])
    again, other = with_batch_norm(before, 5), with_batch_norm(before, 6)
    assert np.array_equal(found.get_weights()[0], again.get_weights()[0])
    assert not np.array_equal(found.get_weights()[0], other.get_weights()[0])


def test_with_same_weights_leaves_the_original_unchanged():
    data = make_target(shape=(8, 8, 4))
    before = build_discriminator((8, 8, 4), 3, shape="conv", units=8)
    weights = [values.copy() for values in before.get_weights()]
    twin = with_same_weights(before)
    np.testing.assert_allclose(twin(data.test), before(data.test), atol=1e-6)
    fit_network(twin, data, Inputs(data, 1, 0).channels("raw"), epochs=1, seed=0)
    for old, now in zip(weights, before.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    assert not np.allclose(twin.get_weights()[0], weights[0])


def test_patch_cnn_finds_a_small_mark_anywhere():
    rng = np.random.default_rng(0)
    marks = rng.choice([-1.0, 1.0], (3, 2, 2, 2))

    def part(count):
        labels, rows = rng.integers(0, 3, count), rng.normal(0, 0.5, (count, 10, 10, 2))
        for row, label in zip(rows, labels, strict=True):
            y, x = rng.integers(0, 9, 2)
            row[y : y + 2, x : x + 2] += 2 * marks[label]
        return rows.astype(np.float32), labels.astype(np.int32)

    data = ProbeData(*part(600), *part(150), *part(200), 3)
    model = patch_cnn((10, 10, 2), 3, width=8, seed=0)
    channels = Inputs(data, 1, 0).channels("standardised")
    found = fit_network(model, data, channels, epochs=8, rate=1e-2, seed=0)
    assert balanced_accuracy(found.test, data.test_labels) > 0.85


def test_fit_network_depends_on_its_seed_and_not_the_global_one():
    data = make_target(shape=(4, 4, 2), leak=0.5)
    channels = Inputs(data, 1, 0).channels("standardised")

    def answers():
        model = positional_cnn((4, 4, 2), 3, width=4, seed=3)
        return fit_network(model, data, channels, epochs=2, seed=3).test

    tf.random.set_seed(1)
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    first = answers()
    assert np.random.rand() == expected
    np.testing.assert_allclose(first, answers(), atol=1e-4)


@pytest.mark.parametrize(("least", "passes"), [(0, 7), (28, 7), (29, 8), (41, 11)])
def test_fit_network_continues_on_a_plateau(least, passes):
    """Labels that cannot be learned: as many updates as were asked for."""
    data = make_target(shape=(4, 4, 2), rows=(64, 20, 20))
    model = patch_cnn((4, 4, 2), 3, width=4, seed=0)
    calls = []
    model.call = _counting(model.call, calls)
    channels = Inputs(data, 1, 0).channels("raw")
    with _eagerly():
        fit_network(model, data, channels, epochs=7, min_updates=least, seed=0)
    # 64 rows are 4 batches of 16.
    assert calls.count(True) == passes * 4


def _counting(call, calls):
    def counted(*arguments, training=None, **keywords):
        calls.append(training)
        return call(*arguments, training=training, **keywords)

    return counted


@contextlib.contextmanager
def _eagerly():
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def data():
    return make_target(shape=(3, 3, 3), rows=(300, 150, 150), leak=0.4)


@pytest.fixture(scope="module")
def rows(data):
    return Inputs(data, 8, 0).standardised


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 0.1])
def test_logistic_equals_scikit_learn(data, rows, strength):
    labels = data.train_labels
    found = logistic(rows, labels, data.validation_labels, 3, strengths=(strength,), steps=500)
    direct = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
    direct.fit(rows.train, labels)
    np.testing.assert_allclose(found.test, direct.predict_proba(rows.test), atol=0.02)


def test_logistic_strength_is_chosen_on_validation_rows(data, rows):
    arguments = rows, data.train_labels, data.validation_labels, 3
    each = [logistic(*arguments, strengths=(c,), steps=500) for c in (1e-7, 1e-2)]
    weak, strong = (balanced_accuracy(one.validation, arguments[2]) for one in each)
    # So strong a penalty leaves nearly nothing of the second in the first.
    assert strong > weak
    found = logistic(*arguments, strengths=(1e-7, 1e-2), steps=500)
    np.testing.assert_allclose(found.test, each[1].test, atol=0.02)


@pytest.mark.parametrize("count", [1, 5])
def test_nearest_neighbours_equal_scikit_learn(data, rows, count):
    even = np.concatenate([np.flatnonzero(data.train_labels == k)[:80] for k in range(3)])
    part = rows._replace(train=rows.train[even])
    labels = data.train_labels[even]
    found = nearest_neighbours(part, labels, data.validation_labels, 3, neighbours=(count,))
    direct = KNeighborsClassifier(count).fit(part.train, labels)
    np.testing.assert_allclose(found.test / count, direct.predict_proba(part.test))


def test_nearest_neighbours_number_is_chosen_on_validation_rows(data, rows):
    arguments = rows, data.train_labels, data.validation_labels, 3
    each = [nearest_neighbours(*arguments, neighbours=(k,)) for k in (1, 5, 25)]
    scores = [balanced_accuracy(one.validation, data.validation_labels) for one in each]
    best = each[int(np.argmax(scores))]
    found = nearest_neighbours(*arguments, neighbours=(1, 5, 25, 9_999))
    assert balanced_accuracy(found.validation, data.validation_labels) >= max(scores)
    found = nearest_neighbours(*arguments, neighbours=(1, 5, 25))
    np.testing.assert_array_equal(found.test, best.test)


def test_boosted_trees_equal_scikit_learn(data, rows):
    found = boosted_trees(rows, data.train_labels, 3, rounds=4, seed=0)
    direct = HistGradientBoostingClassifier(
        max_iter=4,
        learning_rate=0.15,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        class_weight="balanced",
    ).fit(rows.train, data.train_labels)
    agree = found.test.argmax(1) == direct.predict(rows.test)
    assert agree.mean() > 0.97


def test_logistic_class_without_training_rows_has_zeros(data, rows):
    labels = np.where(data.train_labels == 1, 0, data.train_labels)
    for found in (
        logistic(rows, labels, data.validation_labels, 3, strengths=(1.0,), steps=50),
        boosted_trees(rows, labels, 3, rounds=1, seed=0),
        nearest_neighbours(rows, labels, data.validation_labels, 3, neighbours=(5,)),
    ):
        assert found.test.shape == (150, 3) and not found.test[:, 1].any()
