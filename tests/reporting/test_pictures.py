"""Sheets of pictures, pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from tf_mtl_privacy.reporting.pictures import comparison_sheet, contact_sheet, enlarged, png_bytes


def _flat(values, size=2):
    return np.stack([np.full((size, size, 3), value, np.uint8) for value in values])


def test_contact_sheet_reads_like_text():
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


def test_comparison_puts_versions_above_each_other():
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
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match=r"expected \[N, H, W, 3\] uint8"):
        contact_sheet(images)
    with pytest.raises(ValueError, match="expected equal shapes"):
        comparison_sheet([images, np.zeros((3, 2, 2, 3), images.dtype)])
