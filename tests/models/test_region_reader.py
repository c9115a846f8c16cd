"""The reader that the mask is trained against."""

import numpy as np
import pytest

from tf_mtl_privacy.removal.mask_training import build_region_reader


@pytest.mark.parametrize(("size", "cells"), [(32, 16), (64, 32), (96, 24), (128, 32)])
def test_it_reads_covered_pictures_of_any_size(size, cells):
    reader = build_region_reader(size, 8, width=4, seed=0)
    assert reader.input_shape == (None, size, size, 4)
    assert reader(np.zeros((2, size, size, 4), np.float32)).shape == (2, 8)
    assert reader.get_layer("third").output.shape[1:3] == (cells, cells)


def test_parameters_by_hand():
    """Kernels without bias, four numbers for each normalised channel, and the logits."""
    w, classes = 16, 8
    first, second, third = 25 * 4 * w, 9 * w * 2 * w, 9 * 2 * w * 2 * w
    norms = 4 * (w + 2 * w + 2 * w)
    assert build_region_reader(64, classes, width=w, seed=0).count_params() == (
        first + second + third + norms + 2 * w * classes + classes
    )
    # A larger picture takes one halving more.
    assert build_region_reader(128, classes, width=w, seed=0).count_params() == (
        first + second + third + norms + 2 * w * classes + classes + 9 * w * w + 4 * w
    )


def test_the_first_weights_follow_from_the_seed():
    first, again, other = (build_region_reader(32, 3, width=4, seed=s) for s in (1, 1, 2))
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.weights[0].numpy() - other.weights[0].numpy()).max() > 0.01


def test_it_finds_a_detail_wherever_it_is():
    """The maximum over places: a spot moved by whole cells, far from the border, reads the same."""
    reader = build_region_reader(32, 3, width=4, seed=1)
    here, there = (np.zeros((1, 32, 32, 4), np.float32) for _ in range(2))
    spot = np.random.default_rng(0).normal(size=(4, 4, 4))
    here[0, 12:16, 12:16], there[0, 16:20, 14:18] = spot, spot
    np.testing.assert_allclose(reader(here), reader(there), atol=1e-5)
    assert np.abs(reader(here).numpy() - reader(np.zeros_like(here)).numpy()).max() > 1e-3
