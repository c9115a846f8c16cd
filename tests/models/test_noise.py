"""Noise on the features: its size, power constraint, source and saved state."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2

from tests.models.run_folders import TASKS, config_of, finished_run, starting_from
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.models.bundle import build_bundle, load_bundle_weights, save_bundle
from tf_mtl_privacy.models.weights import read_weights
from tf_mtl_privacy.removal import draws_apart
from tf_mtl_privacy.removal.noise import (
    FeatureNoise,
    count_draws,
    draw_anew,
    has_noise,
    noiseless,
    noisy,
)

DEVIATION = 0.5


def noisy_config(**shapes):
    config = config_of(**shapes)
    return dataclasses.replace(config, removal=RemovalConfig(feature_noise=DEVIATION))


@pytest.fixture(scope="module")
def encoder():
    return build_bundle(noisy_config(), TASKS, 8).encoder


def pictures(rows=3, seed=0):
    return np.random.default_rng(seed).random((rows, 32, 32, 3), np.float32)


def drawn(encoder, images, training=False):
    return np.array(encoder(images, training=training) - noiseless(encoder)(images))


@pytest.mark.parametrize("training", [False, True])
def test_noise_has_configured_deviation(training):
    layer = FeatureNoise(0.25)
    noise = np.array(layer(tf.zeros((10, 100, 100)), training=training), np.float64).ravel()
    low, high = chi2.ppf([1e-6, 1 - 1e-6], noise.size)
    assert low < np.sum(noise**2) / 0.25**2 < high
    assert abs(noise.mean()) < 5 * 0.25 / noise.size**0.5


def test_noise_is_independent_across_rows_and_entries(encoder):
    noise = drawn(encoder, np.repeat(pictures(1), 2, axis=0)).reshape(2, -1)
    assert len(np.unique(noise)) == noise.size
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / noise.shape[1] ** 0.5


def test_noisy_features_have_power_one():
    features = np.random.default_rng(0).normal(3.0, 100.0, (4, 5, 5, 6)).astype(np.float32)
    features[1:] *= np.float32(1e-2)
    inputs = tf.keras.Input((5, 5, 6))
    encoder = tf.keras.Model(inputs, noisy(inputs, DEVIATION))
    flat = features.reshape(4, -1).astype(np.float64)
    expected = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    actual = np.array(noiseless(encoder)(features)).reshape(4, -1)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert (np.mean(actual**2, axis=1) <= 1 + 1e-5).all()
    assert not encoder.trainable_variables


def test_noise_has_no_trained_weight_after_power_constraint(encoder):
    plain = build_bundle(config_of(), TASKS, 8).encoder
    names = [variable.path for variable in plain.trainable_variables]
    assert [variable.path for variable in encoder.trainable_variables] == names
    assert has_noise(encoder)
    assert not has_noise(plain)
    assert noiseless(plain) is plain


def test_noise_is_drawn_anew_unless_counted(encoder):
    images = pictures()
    draw = tf.function(lambda rows: encoder(rows, training=False))
    draw_anew(encoder)
    assert not np.array_equal(draw(images), draw(images))
    count_draws(encoder, 7)
    first, second = np.array(draw(images)), np.array(draw(images))
    assert not np.array_equal(first, second)
    count_draws(encoder, 7)
    np.testing.assert_array_equal(first, draw(images))
    np.testing.assert_array_equal(second, draw(images))
    count_draws(encoder, 8)
    assert not np.array_equal(first, draw(images))
    draw_anew(encoder)
    assert not np.array_equal(first, draw(images))


def test_draws_apart_repeats_noise_and_changes_no_later_draw(encoder):
    images = pictures()
    count_draws(encoder, 7)
    with draws_apart(encoder):
        kept = [np.array(encoder(images)), np.array(encoder(images))]
    first = np.array(encoder(images))
    with draws_apart(encoder):
        again = [np.array(encoder(images)), np.array(encoder(images))]
    second = np.array(encoder(images))
    np.testing.assert_array_equal(kept, again)
    assert not np.array_equal(kept[0], kept[1])
    count_draws(encoder, 7)
    np.testing.assert_array_equal([first, second], [encoder(images), encoder(images)])
    assert not np.array_equal(first, kept[0])
    draw_anew(encoder)
    with draws_apart(encoder):
        assert not np.array_equal(kept[0], encoder(images))


def test_saved_bundle_has_no_noise_seed(tmp_path):
    config = noisy_config()
    bundle = build_bundle(config, TASKS, 8)
    save_bundle(bundle, tmp_path)
    assert not np.any(read_weights(tmp_path / "encoder.weights.h5")["adapter_noise"])
    other = build_bundle(
        dataclasses.replace(config, train=dataclasses.replace(config.train, seed=5)), TASKS, 8
    )
    load_bundle_weights(other, tmp_path)
    images = pictures()
    same = np.array(noiseless(bundle.encoder)(images))
    np.testing.assert_array_equal(noiseless(other.encoder)(images), same)
    assert not np.array_equal(drawn(bundle.encoder, images), drawn(other.encoder, images))


def test_exported_encoder_draws_noise_anew(tmp_path, encoder):
    draw_anew(encoder)
    encoder.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    images = pictures()
    one, other = np.array(saved.serve(images)), np.array(saved.serve(images))
    noise = (one - noiseless(encoder)(images)).numpy()
    assert not np.array_equal(one, other)
    assert noise.std() == pytest.approx(DEVIATION, rel=0.1)


def test_noisy_encoder_starts_from_backbone_without_noise(tmp_path):
    before = finished_run(tmp_path / "run", config_of())
    config = starting_from(tmp_path / "run", noisy_config())
    after = build_bundle(config, TASKS, 8).encoder
    pairs = zip(before.encoder.trainable_variables, after.trainable_variables, strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
