"""Covering along one colour axis, and the margin around covered cells."""

import numpy as np
import pytest
from scipy import ndimage

from tf_mtl_privacy.config import ModelConfig, RemovalConfig
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.removal.mask import (
    Cells,
    Cover,
    WithoutAxis,
    mask_map,
    painted,
    region_finder,
    switch_mask,
)

AXIS = np.array([0.48, -0.76, 0.44], np.float32)
AXIS /= np.linalg.norm(AXIS)


def without_axis(axis=AXIS):
    layer = WithoutAxis()
    layer.build((None, 4, 4, 3))
    layer.axis.assign(axis)
    return layer


def pictures(rows=3, size=32, seed=0):
    return np.random.default_rng(seed).uniform(0.2, 0.8, (rows, size, size, 3)).astype(np.float32)


def test_without_axis_matches_hand_calculation():
    image = pictures(size=4)
    actual = without_axis()(image).numpy()
    expected = image - ((image - 0.5) @ AXIS)[..., None] * AXIS
    np.testing.assert_allclose(actual, np.clip(expected, 0, 1), atol=1e-6)
    np.testing.assert_allclose((actual - 0.5) @ AXIS, 0.0, atol=1e-6)
    np.testing.assert_array_equal(without_axis(np.zeros(3))(image).numpy(), image)


def test_without_axis_output_is_independent_of_axis():
    image = pictures(size=4)
    moved = image + np.random.default_rng(1).normal(0, 0.3, (3, 4, 4, 1)).astype(np.float32) * AXIS
    layer = without_axis()
    np.testing.assert_allclose(layer(moved).numpy(), layer(image).numpy(), atol=1e-6)


def test_cover_with_third_input_matches_hand_calculation():
    image, other = pictures(1, 2), pictures(1, 2, seed=1)
    corners = np.array([[[[1.0], [0.0]], [[0.0], [1.0]]]], np.float32)
    actual = Cover(1, "colour")([image, corners, other]).numpy()
    np.testing.assert_array_equal(actual[..., :3], np.where(corners > 0, other, image))
    np.testing.assert_array_equal(actual[..., 3:], corners)


@pytest.mark.parametrize("margin", [0, 1, 3])
def test_margin_dilates_cells(margin):
    odds = np.random.default_rng(2).normal(-2.0, 1.0, (4, 16, 16, 1)).astype(np.float32)
    cells = Cells(margin)
    cells.build(odds.shape)
    actual = cells.marked(odds).numpy()[..., 0]
    square = np.ones((2 * margin + 1, 2 * margin + 1), bool)
    expected = [ndimage.binary_dilation(one, square) for one in odds[..., 0] > 0]
    np.testing.assert_array_equal(actual, np.float32(expected))
    np.testing.assert_array_equal(cells(odds).numpy(), np.zeros_like(odds))
    cells.on.assign(1.0)
    np.testing.assert_array_equal(cells(odds).numpy()[..., 0], actual)
    assert Cells.from_config(cells.get_config()).margin == margin


def encoder_of(margin=1):
    removal = RemovalConfig(
        mask="learned", mask_cell=2, mask_width=8, mask_fill="colour", mask_margin=margin
    )
    model = ModelConfig(compact_width=8, feature_channels=4, pixel_path=True)
    encoder = build_encoder(model, 32, seed=3, removal=removal)
    last = [layer for layer in region_finder(encoder).layers if layer.weights][-1]
    last.kernel.assign(np.random.default_rng(5).normal(0, 1, last.kernel.shape))
    odds = region_finder(encoder)(pictures()).numpy()
    last.bias.assign(last.bias.numpy() - np.quantile(odds, 0.9))
    first_layer(encoder, WithoutAxis).axis.assign(AXIS)
    return encoder


def test_encoder_with_colour_fill_covers_axis():
    encoder, images = encoder_of(), pictures()
    bare = encoder(images).numpy()
    switch_mask(encoder, on=True)
    cells = mask_map(encoder)(images).numpy()
    assert 0.1 < cells.mean() < 0.9
    pixels = np.kron(cells, np.ones((1, 2, 2, 1), np.float32)) > 0
    seen = painted(encoder)(images).numpy()
    expected = np.where(pixels, without_axis()(images).numpy(), images)
    np.testing.assert_allclose(seen[..., :3], expected, atol=1e-6)
    assert np.abs(encoder(images).numpy() - bare).max() > 1e-2


def test_covered_cells_are_independent_of_covered_colour():
    """Neither the covered cells nor any feature depend on it; a change outside does show."""
    encoder, images = encoder_of(), pictures()
    switch_mask(encoder, on=True)
    features, cells = encoder(images).numpy(), mask_map(encoder)(images).numpy()
    inside = np.kron(cells, np.ones((1, 2, 2, 1), np.float32))
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, (3, 32, 32, 1)).astype(np.float32)
    moved = images + inside * noise * AXIS
    assert moved.min() > 0 and moved.max() < 1
    np.testing.assert_array_equal(mask_map(encoder)(moved).numpy(), cells)
    np.testing.assert_allclose(encoder(moved).numpy(), features, atol=1e-4)
    outside = images + (1 - inside) * noise * AXIS
    assert np.abs(encoder(outside).numpy() - features).max() > 1e-2


def test_cover_of_colour_is_rebuilt_from_config():
    again = Cover.from_config(Cover(4, "colour").get_config())
    assert (again.cell, again.fill) == (4, "colour")
