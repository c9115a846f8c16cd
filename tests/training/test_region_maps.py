"""Maps of sensitive regions: from the mask, or from the discriminator's evidence."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.models.bundle import Bundle, build_bundle
from tf_mtl_privacy.removal.mask import region_finder, switch_mask
from tf_mtl_privacy.training.region_maps import (
    evidence,
    region_maps,
    region_source,
    seen_pictures,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def bundle_of(cell=None, fill="grey"):
    config = tiny_config()
    if cell is not None:
        removal = RemovalConfig(mask="learned", mask_cell=cell, mask_width=4, mask_fill=fill)
        config = dataclasses.replace(config, removal=removal)
    bundle = build_bundle(config, {"gender": 2}, 3)
    if cell is not None:
        last = [layer for layer in region_finder(bundle.encoder).layers if layer.weights][-1]
        last.kernel.assign(np.random.default_rng(1).normal(0, 1, last.kernel.shape))
        last.bias.assign(np.zeros(last.bias.shape))
        switch_mask(bundle.encoder, on=True)
    return bundle


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_region_map_of_mask_is_its_probability(cell):
    bundle = bundle_of(cell)
    assert region_source(bundle) == "mask"
    heat, covered = region_maps(bundle)(IMAGES)
    odds = region_finder(bundle.encoder)(IMAGES / np.float32(255)).numpy()[..., 0]
    expected = 1 / (1 + np.exp(-odds.astype(np.float64)))
    square = np.ones((1, cell, cell))
    np.testing.assert_allclose(heat, np.kron(expected, square), rtol=1e-5)
    np.testing.assert_array_equal(covered, np.kron(odds, square) > 0)
    assert 0.02 < covered.mean() < 0.98 and covered.dtype == bool and heat.dtype == np.float32


def test_seen_pictures_are_covered_images():
    bundle = bundle_of(2)
    covered = region_maps(bundle)(IMAGES).covered
    expected = np.where(covered[..., np.newaxis], 128, IMAGES)
    np.testing.assert_array_equal(seen_pictures(bundle.encoder, IMAGES), expected)
    # With the mean colour: one colour for all covered pixels of an image.
    bundle = bundle_of(2, "mean")
    covered, seen = region_maps(bundle)(IMAGES).covered, seen_pictures(bundle.encoder, IMAGES)
    for number in range(3):
        mean = IMAGES[number][covered[number]].mean(0)
        np.testing.assert_allclose(seen[number][covered[number]] - mean, 0, atol=0.51)
    with pytest.raises(ValueError, match="mask_cover"):
        seen_pictures(bundle_of().encoder, IMAGES)


def test_region_source_ignores_mask_that_is_off():
    bundle = bundle_of(2)
    switch_mask(bundle.encoder, on=False)
    assert region_source(bundle) == "discriminator"
    assert region_maps(bundle)(IMAGES).covered is None


def test_evidence_of_linear_discriminator_matches_hand_calculation():
    """logits = W x: the gradient of log p_k is W_k - sum_j p_j W_j; times x, absolute, summed."""
    features, weights = RNG.normal(size=(4, 2, 3, 5)), RNG.normal(size=(30, 3))
    inputs = keras.Input((2, 3, 5))
    dense = keras.layers.Dense(3, use_bias=False)
    head = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([weights])
    bundle = Bundle(head, head, head)
    actual = evidence(bundle, tf.constant(features, tf.float32)).numpy()
    flat = features.reshape(4, 30)
    logits = flat @ weights
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = weights[:, logits.argmax(1)].T - p @ weights.T
    expected = np.abs(gradient * flat).reshape(4, 2, 3, 5).sum(-1, keepdims=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_region_map_without_mask_is_enlarged_evidence():
    bundle = bundle_of()
    assert region_source(bundle) == "discriminator"
    heat, covered = region_maps(bundle)(IMAGES)
    assert heat.shape == (3, 32, 32) and covered is None and heat.min() >= 0
    features = bundle.encoder(IMAGES / np.float32(255))
    cells = evidence(bundle, features).numpy()[..., 0]
    # Each pixel between the two nearest centres of 4 pixels wide cells, in both directions.
    y = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.floor(y).astype(int)
    high, part = np.minimum(low + 1, 7), y - low
    weights = np.zeros((32, 8))
    weights[np.arange(32), low] += 1 - part
    weights[np.arange(32), high] += part
    expected = np.einsum("yi,nij,xj->nyx", weights, cells, weights)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-6)
    # Rows are independent.
    np.testing.assert_allclose(region_maps(bundle)(IMAGES[1:2]).heat, heat[1:2], rtol=1e-4)


def test_region_map_without_mask_and_discriminator_is_refused():
    bundle = dataclasses.replace(bundle_of(), discriminator=None)
    assert region_source(bundle) is None
    with pytest.raises(ValueError, match="neither mask nor discriminator"):
        region_maps(bundle)
