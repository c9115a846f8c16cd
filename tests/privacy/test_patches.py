"""The patches under a kernel, put together from slices, are those of TensorFlow's own op."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping import linear

SIDES = ((1, 7), (5, 6), (9, 4))
KERNELS = ((1, 2), (3, 3), (5, 1))
STRIDES_AND_RATES = ((1, 1), (2, 1), (3, 1), (4, 1), (1, 3))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("steps", STRIDES_AND_RATES)
def test_bit_equal_to_extract_patches(padding, steps):
    (stride, rate), compared = steps, 0
    for (height, width), kernel in itertools.product(SIDES, KERNELS):
        spans = [(size - 1) * rate + 1 for size in kernel]
        if padding == "valid" and (spans[0] > height or spans[1] > width):
            continue
        x = tf.constant(np.random.default_rng(0).normal(size=(2, height, width, 3)), tf.float32)
        layer = keras.layers.Conv2D(2, kernel, strides=stride, dilation_rate=rate, padding=padding)
        layer.build(x.shape)
        expected = tf.image.extract_patches(
            x, [1, *kernel, 1], [1, stride, stride, 1], [1, rate, rate, 1], padding.upper()
        )
        np.testing.assert_array_equal(linear._patches_by_slices(layer, x), expected)
        compared += 1
    assert compared


@pytest.mark.parametrize("shape", [(None, 6, 6, 3), (None, None, None, 3)])
def test_patches_in_a_graph_of_unknown_sizes(shape):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 6, 3)), tf.float32)
    layer = keras.layers.Conv2D(2, 3, strides=2, padding="same")
    layer.build(x.shape)
    traced = tf.function(
        lambda rows: linear._patches(layer, rows), input_signature=[tf.TensorSpec(shape)]
    )
    expected = tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
    np.testing.assert_array_equal(traced(x), expected)
