"""Pictures of a request are prepared as those of a file, however they are sent."""

import numpy as np
import pytest
import tensorflow as tf

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.data.preprocess import read_picture
from tf_mtl_privacy.export.signatures import files_ready, pixels_ready

SIZE = 32
SHAPES = [(90, 60), (33, 32), (SIZE, SIZE), (8, 11)]


@pytest.mark.parametrize("crop", ["center", "inner", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_and_files_give_what_predict_reads(crop, shape):
    images = np.stack([picture(seed, *shape) for seed in range(3)])
    files = [encoded(image, "PNG") for image in images]
    expected = [read_picture(file, SIZE, crop) for file in files]
    prepare = tf.function(
        pixels_ready(SIZE, crop), input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)]
    )
    found = prepare(tf.constant(images))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        tf.function(files_ready(SIZE, crop))(tf.constant(files)), expected
    )
    same = shape == (SIZE, SIZE) and crop != "inner"
    assert np.array_equal(found, images) == same


def test_files_of_one_request_may_differ_in_size():
    files = [encoded(picture(seed, *shape), "JPEG") for seed, shape in enumerate(SHAPES)]
    found = tf.function(files_ready(SIZE, "center"))(tf.constant(files))
    np.testing.assert_array_equal(found, [read_picture(file, SIZE, "center") for file in files])
