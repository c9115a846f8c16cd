"""Closed-form erasure: by hand, against scikit-learn and other edits, and in a whole run."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.removal.erasure import Erasure, ErasureFitting, fit_eraser
from tf_mtl_privacy.removal.noise import NOISE, noiseless
from tf_mtl_privacy.training.fit import fit

# Class means (1, 0) and (-1, 0), covariance [[2, 1], [1, 1]].
BY_HAND = np.array([[2, 1], [0, -1], [-2, -1], [0, 1]], np.float32)
MOVE = np.array([5, -7], np.float32)


def rows_of(count, size, classes, seed=0, separation=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    mixed = rng.normal(size=(count, size)) @ rng.normal(size=(size, size))
    return mixed + separation * rng.normal(size=(classes, size))[labels], labels


def cross(rows, targets):
    return (rows - rows.mean(0)).T @ (targets - targets.mean(0)) / len(rows)


def reads(rows, labels):
    model = LogisticRegression(max_iter=2000).fit(rows, labels)
    return float(np.mean(model.predict(rows) == labels))


def test_eraser_in_the_plane_matches_hand_calculation():
    # P = c c' S^-1 / (c' S^-1 c) with c = (1, 0) and S^-1 = [[1, -1], [-1, 2]]: (x, y) -> (y, y).
    eraser = fit_eraser(BY_HAND, np.array([1, 1, 0, 0]), 2)
    np.testing.assert_allclose(eraser.mean, [0, 0], atol=1e-6)
    np.testing.assert_allclose(eraser.right @ eraser.left, [[1, 0], [-1, 0]], atol=1e-5)
    np.testing.assert_allclose(eraser(BY_HAND), BY_HAND[:, [1, 1]], atol=1e-5)


def test_eraser_keeps_mean():
    eraser = fit_eraser(BY_HAND + np.array([5, -7]), np.array([1, 1, 0, 0]), 2)
    moved = BY_HAND[:, [1, 1]] + np.array([5, -7])
    np.testing.assert_allclose(eraser(BY_HAND + np.array([5, -7])), moved, atol=1e-5)


def test_eraser_leaves_logistic_regression_at_chance():
    rows, labels = rows_of(3000, 12, 4)
    eraser = fit_eraser(rows, labels, 4)
    assert eraser.right.shape == (12, 3)
    assert reads(rows, labels) > 0.6
    assert reads(eraser(rows), labels) <= 0.26


@pytest.mark.parametrize("components", [0, 5, 128])
def test_eraser_with_more_features_than_rows_erases_with_any_whitening(components):
    rows, labels = rows_of(90, 400, 3)
    eraser = fit_eraser(rows, labels, 3, components=components)
    targets = np.eye(3)[labels]
    assert np.abs(cross(rows, targets)).max() > 0.5
    assert np.abs(cross(eraser(rows), targets)).max() < 1e-3
    assert np.linalg.matrix_rank(eraser.right @ eraser.left, tol=1e-3) == 2


def test_eraser_with_randomised_decomposition_erases_as_much():
    rows, labels = rows_of(600, 300, 3)
    eraser = fit_eraser(rows, labels, 3, components=20)
    assert np.abs(cross(eraser(rows), np.eye(3)[labels])).max() < 1e-3


def test_eraser_changes_less_than_other_erasing_edits():
    rows, labels = rows_of(2000, 6, 3)
    eraser, targets = fit_eraser(rows, labels, 3), np.eye(3)[labels]
    ours = np.mean(np.sum((eraser(rows) - rows) ** 2, axis=1))
    centred, directions = rows - rows.mean(0), cross(rows, targets)[:, :2]
    rng, others = np.random.default_rng(0), []
    for number in range(200):
        # Any oblique projection along the directions erases; the first one is orthogonal.
        whitening = np.eye(6) + (0 if number == 0 else 0.5) * rng.normal(size=(6, 6))
        basis = np.linalg.qr(whitening @ directions)[0]
        edit = np.linalg.inv(whitening) @ basis @ basis.T @ whitening
        changed = centred @ edit.T
        assert np.abs(cross(rows - changed, targets)).max() < 1e-6
        others.append(np.mean(np.sum(changed**2, axis=1)))
    # So do neighbours of the fitted projection.
    assert ours <= min(others) * (1 + 1e-6)
    assert ours < others[0] * 0.99


def test_eraser_with_strata_keeps_their_information():
    rng, person = np.random.default_rng(0), np.arange(2000) % 8
    gender = person % 2
    rows = rng.normal(size=(2000, 20)) + 2.0 * rng.normal(size=(8, 20))[person]
    rows += 3.0 * gender[:, None]
    kept = fit_eraser(rows, person, 8, strata=gender)(rows)
    gone = fit_eraser(rows, person, 8)(rows)
    assert reads(rows, person) > 0.95
    assert reads(kept, gender) > 0.95
    # Half of the people have the same gender.
    assert reads(kept, person) < 0.35
    assert reads(gone, gender) < 0.56


def test_eraser_of_uninformative_label_changes_nothing():
    rows = np.repeat(np.random.default_rng(0).normal(size=(50, 4)), 2, axis=0)
    eraser = fit_eraser(rows, np.arange(100) % 2, 2)
    np.testing.assert_allclose(eraser(rows), rows, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1, 2, 0])}, "labels in"),
        ({"labels": np.array([0, 1])}, "labels="),
        ({"strata": np.array([0, 1])}, "strata="),
        ({"rows": BY_HAND * np.nan}, "finite"),
        ({"classes": 1}, "labels in"),
    ],
)
def test_eraser_of_invalid_input_is_refused(change, message):
    given = {"rows": BY_HAND, "labels": np.array([1, 1, 0, 0]), "classes": 2} | change
    with pytest.raises(ValueError, match=message):
        fit_eraser(**given)


def test_eraser_of_small_rank_erases_most_informative_directions():
    """Of class means 3 apart along one axis and 1 along another, only the first axis goes."""
    corners = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]], np.float64)
    rng, labels = np.random.default_rng(0), np.arange(4000) % 4
    noise = rng.normal(size=(4000, 2))
    noise -= np.stack([noise[labels == k].mean(0) for k in range(4)])[labels]
    rows = corners[labels] / 10 + noise
    eraser = fit_eraser(rows, labels, 4, rank=1)
    assert eraser.right.shape == (2, 1)
    erased, targets = eraser(rows), np.eye(4)[labels]
    left, before = cross(erased, targets), cross(rows, targets)
    assert np.abs(left[0]).max() < 0.02 * np.abs(before[0]).max()
    np.testing.assert_allclose(left[1], before[1], atol=0.02 * np.abs(before[0]).max())
    for most in (3, 7):
        all_of_them = fit_eraser(rows, labels, 4, rank=most)
        np.testing.assert_allclose(all_of_them(rows), fit_eraser(rows, labels, 4)(rows), atol=1e-5)


def projection(**options):
    """Returns the fitted P of an untrained encoder, `[d, d]`."""
    removal = RemovalConfig(erasure="leace", erasure_labels="train", **options)
    config, data = dataclasses.replace(tiny_config(), removal=removal), tiny_arrays(60)
    bundle = build_bundle(config, {"gender": 2}, len(data.private_classes))
    layer = first_layer(bundle.encoder, Erasure)
    assert not np.any(layer.right.numpy())
    ErasureFitting(config, data, bundle.encoder).refit()
    return layer.right.numpy() @ layer.left.numpy()


@pytest.mark.parametrize(("rank", "expected"), [(0, 2), (1, 1), (2, 2), (9, 2)])
def test_erasure_has_configured_rank(rank, expected):
    actual = projection(erasure_rank=rank)
    assert np.linalg.matrix_rank(actual, tol=1e-4) == expected
    np.testing.assert_allclose(actual @ actual, actual, atol=1e-4)


def test_erasure_without_components_is_orthogonal():
    at_right_angles, least_change = projection(erasure_components=0), projection()
    np.testing.assert_allclose(at_right_angles, at_right_angles.T, atol=1e-5)
    assert np.abs(least_change - least_change.T).max() > 1e-3


def noisy_config(**removal):
    removal = {"feature_noise": 0.5, "erasure": "leace", "erasure_labels": "train"} | removal
    return dataclasses.replace(tiny_config(), removal=RemovalConfig(**removal))


@pytest.fixture(scope="module")
def whole(untraced, tmp_path_factory):
    return fit(noisy_config(), tiny_arrays(), run_dir=tmp_path_factory.mktemp("whole"))


def test_finished_run_has_erasure_fitted_to_its_encoder(whole):
    data = tiny_arrays()
    rows = data.rows["train"]
    images = to_float(tf.constant(data.store.images(rows)))
    labels = data.labels_of(rows)
    gender, private = labels.business["gender"], np.eye(3)[labels.private]
    beyond = private.copy()
    for value in (0, 1):
        beyond[gender == value] -= private[gender == value].mean(0)
    layer = first_layer(whole.bundle.encoder, Erasure)
    part = keras.Model(whole.bundle.encoder.inputs[0], [layer.input, layer.output])
    before, after = (np.array(out).reshape(len(rows), -1) for out in part(images, training=False))
    size = [np.abs((x - x.mean(0)).T @ beyond / len(rows)).max() for x in (before, after)]
    assert size[0] > 1e-2
    assert size[1] < 1e-4


def test_finished_run_is_saved_without_noise_seed(whole):
    assert not np.any(whole.bundle.encoder.get_layer(NOISE).draws)
    images = np.zeros((2, 32, 32, 3), np.float32)
    noise = whole.bundle.encoder(images) - noiseless(whole.bundle.encoder)(images)
    assert np.std(noise) == pytest.approx(0.5, rel=0.2)
