"""Sheets of images and maps over faces, pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from tf_mtl_privacy.reporting.pictures import (
    comparison_sheet,
    contact_sheet,
    enlarged,
    heat_over,
    outlined,
    png_bytes,
)

RNG = np.random.default_rng(0)


def _flat(values, size=2):
    return np.stack([np.full((size, size, 3), value, np.uint8) for value in values])


def test_contact_sheet_orders_images_like_text():
    sheet = contact_sheet(_flat([10, 20, 30]), columns=2, gap=1)
    expected = np.array(
        [
            [255, 255, 255, 255, 255, 255, 255],
            [255, 10, 10, 255, 20, 20, 255],
            [255, 10, 10, 255, 20, 20, 255],
            [255, 255, 255, 255, 255, 255, 255],
            [255, 30, 30, 255, 255, 255, 255],
            [255, 30, 30, 255, 255, 255, 255],
            [255, 255, 255, 255, 255, 255, 255],
        ]
    )
    np.testing.assert_array_equal(sheet[..., 0], expected)


def test_comparison_sheet_stacks_versions():
    sheet = comparison_sheet([_flat([1, 2, 3], 1), _flat([11, 12, 13], 1)], columns=2, gap=0)
    np.testing.assert_array_equal(sheet[..., 0], [[1, 2], [11, 12], [3, 255], [13, 255]])


def test_enlarged_repeats_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    found = enlarged(image, 5)
    assert found.shape == (1, 4, 4, 3)
    np.testing.assert_array_equal(found[0, ::2, ::2], image[0])
    np.testing.assert_array_equal(found[0, 1::2, 1::2], image[0])
    assert enlarged(image, 1).shape == image.shape


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(image)))), image)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 2, 2, 3), np.float32), np.zeros((0, 2, 2, 3), np.uint8)]
)
def test_sheets_of_wrong_arrays_are_refused(images):
    with pytest.raises(ValueError, match=r"expected \[N, H, W, 3\] uint8"):
        contact_sheet(images)
    with pytest.raises(ValueError, match="expected equal shapes"):
        comparison_sheet([images, np.zeros((3, 2, 2, 3), images.dtype)])


def test_heat_map_without_marks_is_grey():
    images = RNG.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    found = heat_over(images, np.zeros((2, 4, 4)))
    grey = images @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], grey, atol=0.5001)


def test_heat_map_maximum_is_yellow_over_a_grey_face():
    """By hand: 15 % of a white or black face and 85 % of the map's last colour."""
    images = np.zeros((1, 1, 2, 3), np.uint8)
    images[0, 0, 1] = 255
    found = heat_over(images, np.ones((1, 1, 2)))
    yellow = 0.85 * np.array([254, 232, 56])
    np.testing.assert_allclose(found[0, 0], [yellow, yellow + 0.15 * 255], atol=0.5001)


def test_each_picture_has_its_own_scale():
    images = np.full((2, 2, 2, 3), 90, np.uint8)
    maps = RNG.uniform(0.1, 1, (2, 2, 2))
    scaled = maps * np.array([1.0, 1e-6])[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(heat_over(images, maps), heat_over(images, scaled))


def test_heat_map_brightness_rises_with_heat():
    """It gets lighter with the map: in luminance, without red, and without blue."""
    share = np.linspace(0.2, 1, 30)
    found = heat_over(np.full((1, 1, 30, 3), 40, np.uint8), share[np.newaxis, np.newaxis])
    linear = (found[0, 0] / 255.0) ** 2.2
    for weights in ([0.2126, 0.7152, 0.0722], [0.0, 0.9, 0.1], [0.4, 0.6, 0.0]):
        assert np.all(np.diff(linear @ np.array(weights)) > -1e-4)
        assert (linear @ np.array(weights))[-1] > 3 * (linear @ np.array(weights))[0]


def test_outline_is_outside_the_region():
    images = np.full((1, 7, 7, 3), 90, np.uint8)
    region = np.zeros((1, 7, 7), bool)
    region[0, 3, 3] = True
    expected = np.full((7, 7), 90)
    expected[1:6, 1:6] = 255
    expected[2:5, 2:5] = 0
    expected[3, 3] = 90
    np.testing.assert_array_equal(outlined(images, region)[0, ..., 1], expected)
    assert (images == 90).all(), "the picture itself is left as it is"
    np.testing.assert_array_equal(outlined(images, np.zeros_like(region)), images)


def test_outlined_region_at_the_border_is_cut_off():
    images = np.full((1, 4, 4, 3), 90, np.uint8)
    region = np.zeros((1, 4, 4), bool)
    region[0, 0, 0] = True
    expected = [[90, 0, 255, 90], [0, 0, 255, 90], [255, 255, 255, 90], [90, 90, 90, 90]]
    np.testing.assert_array_equal(outlined(images, region)[0, ..., 0], expected)
