"""Views of a noisy encoder: one draw, the mean of 64, no noise."""

import dataclasses

import numpy as np
import tensorflow as tf
from scipy.stats import chi2

from tests.models.run_folders import TASKS, config_of
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.evaluation.probes.targets import feature_views
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.removal.noise import noiseless

DEVIATION = 0.5
PICTURES = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)


def encoder_of(noise):
    config = dataclasses.replace(config_of(), removal=RemovalConfig(feature_noise=noise))
    return build_bundle(config, TASKS, 8).encoder


def test_feature_views_without_noise_are_the_released_features():
    encoder = encoder_of(0.0)
    (name,) = views = feature_views(encoder)
    assert name == ""
    expected = encoder(PICTURES.astype(np.float32) / 255)
    np.testing.assert_allclose(views[""](tf.constant(PICTURES)), expected, atol=1e-5)


def test_feature_views_mean_of_64_has_an_eighth_of_the_noise():
    encoder = encoder_of(DEVIATION)
    views = feature_views(encoder)
    assert list(views) == ["one_draw", "mean_of_64", "noiseless"]
    bare = np.array(noiseless(encoder)(PICTURES.astype(np.float32) / 255), np.float64)
    seen = {name: np.array(view(tf.constant(PICTURES))) - bare for name, view in views.items()}
    low, high = chi2.ppf([1e-6, 1 - 1e-6], bare.size)
    assert low < np.sum((seen["one_draw"] / DEVIATION) ** 2) < high
    assert low < np.sum((seen["mean_of_64"] / (DEVIATION / 8)) ** 2) < high
    np.testing.assert_allclose(seen["noiseless"], 0, atol=1e-5)
    # The real mean of 64 draws is of the same size.
    mean = np.mean([views["one_draw"](tf.constant(PICTURES)) for _ in range(64)], axis=0) - bare
    assert low < np.sum((mean / (DEVIATION / 8)) ** 2) < high


def test_feature_views_mean_depends_on_the_pictures_only():
    encoder = encoder_of(DEVIATION)
    view, bare = (feature_views(encoder)[name] for name in ("mean_of_64", "noiseless"))
    one, other = (tf.constant(part) for part in (PICTURES[:9], PICTURES[9:18]))
    np.testing.assert_array_equal(view(one), view(one))
    assert not np.allclose(view(one) - bare(one), view(other) - bare(other), atol=1e-3)
