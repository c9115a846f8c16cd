"""The mask in an encoder: what it covers, and what the encoder can see of covered cells."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.config import ModelConfig, RemovalConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.removal.mask import (
    Cells,
    Cover,
    cover_cells,
    find_regions,
    has_mask,
    is_masked,
    mask_map,
    masked,
    region_finder,
    switch_mask,
    tried_cells,
)

SMALL = ModelConfig(compact_width=8, feature_channels=4, pixel_path=True)
RNG = np.random.default_rng(0)


def last_layer(encoder):
    """Returns the mask's layer whose bias shifts all log-odds."""
    return [layer for layer in region_finder(encoder).layers if layer.weights][-1]


def encoder_of(cell=2, size=32, *, seed=3, bias=None, fill="grey"):
    """Builds an encoder with a mask; `bias` is added to all log-odds."""
    removal = RemovalConfig(mask="learned", mask_cell=cell, mask_width=8, mask_fill=fill)
    encoder = build_encoder(SMALL, size, seed=seed, removal=removal)
    if bias is not None:
        last = last_layer(encoder)
        last.bias.assign(np.full(last.bias.shape, bias))
        last.kernel.assign(RNG.normal(0, 1, last.kernel.shape))
    return encoder


def pictures(rows=3, size=32, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (rows, size, size, 3)).astype(np.float32)


def half_covering(cell, fill="grey"):
    """An encoder, and images in which its mask covers some cells but not all."""
    encoder = encoder_of(cell, bias=0.0, fill=fill)
    images = pictures()
    odds = region_finder(encoder)(images).numpy()
    last = last_layer(encoder)
    last.bias.assign(np.full(last.bias.shape, -np.median(odds)))
    switch_mask(encoder, on=True)
    cells = mask_map(encoder)(images).numpy()
    assert 0.2 < cells.mean() < 0.8
    return encoder, images, cells


def as_pixels(cells, cell):
    return np.kron(cells, np.ones((1, cell, cell, 1), np.float32))


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_mask_covers_cells_in_grey_and_leaves_the_rest(cell):
    encoder, images, cells = half_covering(cell)
    assert cells.shape == (3, 32 // cell, 32 // cell, 1) and set(np.unique(cells)) == {0.0, 1.0}
    covered = cover_cells(encoder)([images, cells]).numpy()
    pixels = as_pixels(cells, cell)
    np.testing.assert_array_equal(covered[..., 3:], pixels)
    np.testing.assert_allclose(covered[..., :3], np.where(pixels > 0, 0.5, images), atol=1e-7)


def with_cells(encoder, cell):
    """Returns the same encoder with the mask's cells as an input."""
    picture, cells = keras.Input((32, 32, 3)), keras.Input((32 // cell, 32 // cell, 1))
    rest = keras.Model(encoder.get_layer("mask_cover").output, encoder.output)
    return keras.Model([picture, cells], rest(cover_cells(encoder)([picture, cells])))


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_covered_pixels_never_change_the_features(cell):
    """Later layers get the same bits, whatever the covered pixels are."""
    encoder, images, cells = half_covering(cell)
    behind = with_cells(encoder, cell)
    features = encoder(images).numpy()
    np.testing.assert_array_equal(behind([images, cells]).numpy(), features)
    inside = as_pixels(cells, cell) > 0
    for other in (pictures(seed=1), np.zeros_like(images), 1e6 * pictures(seed=2)):
        changed = np.where(inside, other, images).astype(np.float32)
        np.testing.assert_array_equal(behind([changed, cells]).numpy(), features)
    # The control: one uncovered pixel shows.
    bare = np.argwhere(~inside[0, ..., 0])[0]
    changed = images.copy()
    changed[0, bare[0], bare[1]] = 1.0 - changed[0, bare[0], bare[1]]
    assert np.abs(behind([changed, cells]).numpy() - features).max() > 1e-3


def test_mean_fill_passes_three_numbers_per_image():
    """Permuting covered pixels changes nothing; changing their mean does."""
    encoder, images, cells = half_covering(2, fill="mean")
    behind = with_cells(encoder, 2)
    inside = as_pixels(cells, 2)[..., 0] > 0
    features, moved = encoder(images).numpy(), images.copy()
    for number in range(len(images)):
        moved[number, inside[number]] = images[number, inside[number]][::-1]
    np.testing.assert_allclose(behind([moved, cells]).numpy(), features, atol=1e-4)
    brighter = np.where(inside[..., np.newaxis], 0.5 * images + 0.5, images).astype(np.float32)
    assert np.abs(behind([brighter, cells]).numpy() - features).max() > 1e-2


def test_new_mask_is_off_and_covers_nothing():
    encoder, bare = encoder_of(bias=5.0), build_encoder(SMALL, 32, seed=3)
    images = pictures()
    assert has_mask(encoder) and not is_masked(encoder)
    assert not has_mask(bare) and not is_masked(bare)
    np.testing.assert_array_equal(mask_map(encoder)(images), np.zeros((3, 16, 16, 1)))
    # Features, which pixels of the 4x4 of a cell are covered, the pixels. The mask's presence
    # leaves the other layers' initial weights as they are.
    expected = bare(images).numpy()
    zeros = np.zeros((3, 8, 8, 16))
    off = np.concatenate([expected[..., :4], zeros, expected[..., 4:]], axis=-1)
    np.testing.assert_array_equal(encoder(images), off)
    switch_mask(encoder, on=True)
    assert is_masked(encoder)
    cells = mask_map(encoder)(images).numpy()
    assert cells.mean() > 0.5
    pixels = as_pixels(cells, 2).reshape(3, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4)
    on = encoder(images).numpy()
    np.testing.assert_array_equal(on[..., 4:20], pixels.reshape(3, 8, 8, 16))
    assert np.abs(on - off)[..., :4].max() > 0.1
    switch_mask(encoder, on=False)
    np.testing.assert_array_equal(encoder(images), off)
    switch_mask(bare, on=True)
    assert not is_masked(bare)


def test_cell_is_covered_above_even_odds():
    cells = Cells()
    odds = np.array([-1.0, 0.0, 1e-6, 2.0], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(cells(odds), np.zeros((1, 2, 2, 1)))
    cells.on.assign(1.0)
    np.testing.assert_array_equal(np.ravel(cells(odds)), [0, 0, 1, 1])


def test_mask_weights_are_not_trainable_in_encoder():
    encoder = encoder_of()
    assert encoder.trainable_variables
    assert not [v.path for v in encoder.trainable_variables if v.path.startswith("mask_")]
    finder = region_finder(encoder)
    assert {w.path for w in finder.weights} == {
        w.path for w in encoder.weights if w.path.startswith("mask_") and "cells" not in w.path
    }
    assert finder(pictures()).shape == (3, 16, 16, 1)
    # Few cells are covered before training.
    assert np.mean(finder(pictures()).numpy() > 0) < 0.2


def test_mask_parts_of_encoder_without_mask_are_refused():
    for part in (region_finder, mask_map, cover_cells):
        with pytest.raises(ValueError, match="mask_"):
            part(build_encoder(SMALL, 32))


@pytest.mark.parametrize(
    ("cell", "size", "least"), [(1, 34, 4), (2, 34, 4), (4, 36, 8), (8, 40, 16), (16, 48, 32)]
)
def test_mask_cell_that_does_not_divide_image_is_refused(cell, size, least):
    inputs = keras.Input((size, size, 3))
    problem = f"--mask_cell={cell}: --image_size={size} must be a multiple of {least}$"
    with pytest.raises(UsageError, match=problem):
        masked(inputs, cell=cell, fill="grey", width=4, seed=0)
    whole = keras.Input((4 * least, 4 * least, 3))
    actual = masked(whole, cell=cell, fill="grey", width=4, seed=0)
    assert actual.shape == (None, 4 * least, 4 * least, 4)


@pytest.mark.parametrize(("cell", "first", "last"), [(1, 3, 4), (2, 3, 1), (4, 5, 1)])
def test_region_finder_parameters_match_hand_calculation(cell, first, last):
    """Kernel + bias of each convolution, by hand; w = 8 channels."""
    inputs = keras.Input((32, 32, 3))
    finder = keras.Model(inputs, find_regions(inputs, cell=cell, width=8, seed=0))

    def conv(size, before, after):
        return size**2 * before * after + after

    near = conv(first, 3, 8) + conv(3, 8, 8)
    around = conv(3, 8, 16) + 2 * conv(3, 16, 16) + conv(1, 16, 8)
    together = conv(1, 8, 8) + conv(3, 8, 8) + conv(1, 8, last)
    assert finder.count_params() == near + around + together
    assert finder.output_shape == (None, 32 // cell, 32 // cell, 1)


def test_cover_in_grey_matches_hand_calculation():
    image = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
    corners = np.array([[[[1.0], [0.0]], [[0.0], [1.0]]]], np.float32)
    actual = Cover(1, "grey")([image, corners]).numpy()
    np.testing.assert_allclose(actual[0, 0, 0], [0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(actual[0, 0, 1], [3 / 12, 4 / 12, 5 / 12, 0.0])
    np.testing.assert_allclose(actual[0, 1, 1], [0.5, 0.5, 0.5, 1.0])
    whole = Cover(2, "grey")([image, np.ones((1, 1, 1, 1), np.float32)]).numpy()
    np.testing.assert_allclose(whole[..., :3], 0.5)


def test_cover_in_mean_colour_matches_hand_calculation():
    image = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
    corners = np.array([[[[1.0], [0.0]], [[0.0], [1.0]]]], np.float32)
    actual = Cover(1, "mean")([image, corners]).numpy()
    # The mean of pixels (0, 1, 2) and (9, 10, 11) twelfths.
    np.testing.assert_allclose(actual[0, 0, 0], [4.5 / 12, 5.5 / 12, 6.5 / 12, 1.0], rtol=1e-6)
    np.testing.assert_allclose(actual[0, 1, 1], actual[0, 0, 0])
    np.testing.assert_allclose(actual[0, 0, 1], [3 / 12, 4 / 12, 5 / 12, 0.0])
    nothing = Cover(1, "mean")([image, np.zeros_like(corners)]).numpy()
    np.testing.assert_array_equal(nothing[..., :3], image)


def test_cover_is_rebuilt_from_config():
    again = Cover.from_config(Cover(4, "mean").get_config())
    assert (again.cell, again.fill) == (4, "mean")


def _uniform(shape, seed):
    return tf.random.stateless_uniform(shape, seed, 1e-4, 1.0 - 1e-4).numpy().astype(np.float64)


def test_tried_cells_gradient_matches_hand_calculation():
    """0 or 1 forwards; backwards the slope of the relaxed draw, s (1 - s) / temperature."""
    odds = tf.constant([[-2.0, 0.5], [1.0, 3.0]])[tf.newaxis, ..., tf.newaxis]
    seed = tf.constant([3, 4])
    with tf.GradientTape() as tape:
        tape.watch(odds)
        cells = tried_cells(odds, seed)
        weighted = tf.reduce_sum(cells * tf.constant([[1.0, 2.0], [3.0, 4.0]])[..., tf.newaxis])
    uniform = _uniform((1, 2, 2, 1), [3, 4])
    scale = tf.random.stateless_uniform((1, 1, 1, 1), [3, 4 + (1 << 30)]).numpy()
    moved = odds.numpy() + scale * np.log(uniform / (1.0 - uniform))
    np.testing.assert_array_equal(cells, (moved > 0).astype(np.float32))
    soft = 1.0 / (1.0 + np.exp(-1.5 * moved))
    expected = np.array([[1.0, 2.0], [3.0, 4.0]])[np.newaxis, ..., np.newaxis]
    expected = expected * 1.5 * soft * (1.0 - soft)
    np.testing.assert_allclose(tape.gradient(weighted, odds), expected, rtol=1e-4)


def test_tried_cells_follow_from_seed_and_odds():
    odds = tf.zeros((200, 8, 8, 1))
    first, again = (tried_cells(odds, tf.constant([1, 2])).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {0.0, 1.0}
    assert np.mean(first != tried_cells(odds, tf.constant([1, 3])).numpy()) > 0.3
    # Even odds are covered half of the time: 12,800 draws, five standard errors.
    assert abs(first.mean() - 0.5) < 5 * 0.5 / np.sqrt(first.size)
    assert tried_cells(odds - 50.0, tf.constant([1, 2])).numpy().max() == 0.0
    assert tried_cells(odds + 50.0, tf.constant([1, 2])).numpy().min() == 1.0
    # Log-odds of 2: covered always without noise, in 88 % of draws with all of it; in between here.
    assert 0.88 < tried_cells(odds + 2.0, tf.constant([1, 2])).numpy().mean() < 1.0
