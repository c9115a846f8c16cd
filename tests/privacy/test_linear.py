"""Convolutions of every kind: each backend equals a loop over rows, or refuses them by name."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.networks import BACKENDS, LAYERS, flat, initializer, loop_over_rows, sgd_update
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping import linear

CLIP = 0.7
PLAIN = (LAYERS.Conv1D, LAYERS.Conv2D)
DEPTHWISE = (LAYERS.DepthwiseConv1D, LAYERS.DepthwiseConv2D)
SEPARABLE = (LAYERS.SeparableConv1D, LAYERS.SeparableConv2D)
TRANSPOSED = (LAYERS.Conv1DTranspose, LAYERS.Conv2DTranspose)
# The ones with a rule for ghost clipping; it must refuse all others.
KNOWN_TO_GHOST = (LAYERS.Conv2D, LAYERS.DepthwiseConv2D)


class Grouped(LAYERS.Layer):
    """A grouped convolution that no attribute of the layer reveals."""

    def __init__(self, filters, size, groups):
        super().__init__()
        self.sizes = filters, size, groups

    def build(self, shape):
        filters, size, groups = self.sizes
        self.w = self.add_weight(shape=(size, size, shape[-1] // groups, filters), name="w")

    def call(self, x):
        return keras.ops.conv(x, self.w)


def network(layer, shape, dropout):
    x = inputs = keras.Input(shape)
    x = layer(x)
    if dropout:
        x = LAYERS.Dropout(1e-9)(x)  # keeps every number, and draws random ones
    x = LAYERS.Dense(2, kernel_initializer=initializer(1))(LAYERS.Flatten()(x))
    return keras.Model(inputs, x)


def loss(outputs):
    return tf.reduce_sum((outputs - 1) ** 2, 1)


def check(layer, shape, dropout=False, traced=False, seed=0):
    model = network(layer, shape, dropout)
    x = np.random.default_rng(seed).normal(size=(4, *shape)).astype(np.float32)
    expected = loop_over_rows(model, x, loss, CLIP)
    assert np.abs(expected).max() > 1e-2
    for backend in BACKENDS:
        if backend == "ghost" and not ghost_knows(layer):
            with pytest.raises(UsageError, match=rf"\({type(layer).__name__}\)"):
                sgd_update(model, x, loss, CLIP, clipping=backend)
            continue
        update = flat(sgd_update(model, x, loss, CLIP, clipping=backend, traced=traced)[0])
        np.testing.assert_allclose(update, expected, atol=1e-5, err_msg=backend)


def ghost_knows(layer):
    return type(layer) in KNOWN_TO_GHOST and getattr(layer, "groups", 1) == 1


@st.composite
def layers(draw):
    family = draw(st.sampled_from([PLAIN, DEPTHWISE, SEPARABLE, TRANSPOSED]))
    kind = family[draw(st.integers(0, 1))]
    both = family is DEPTHWISE or family is SEPARABLE
    stride = draw(st.sampled_from([1, 2, 3]))
    rates = (1, 2) if stride == 1 or both else (1,)
    options = {
        "kernel_size": draw(st.sampled_from([2, 3])),
        "strides": stride,
        "dilation_rate": draw(st.sampled_from(rates)),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
    }
    if family is not DEPTHWISE:
        options["filters"] = draw(st.sampled_from([2, 4]))
    if family is PLAIN:
        options["groups"] = draw(st.sampled_from([1, 2]))
    if family in (DEPTHWISE, SEPARABLE):
        options["depth_multiplier"] = draw(st.sampled_from([1, 2]))
    side = draw(st.integers(6, 8))
    shape = (side, 4) if kind is family[0] else (side, draw(st.integers(6, 8)), 4)
    return kind(**options), shape


@settings(max_examples=12, deadline=None)
@given(layers(), st.booleans(), st.integers(0, 1000))
@pytest.mark.slow
def test_backends_equal_a_loop_over_rows_on_random_convolutions(drawn, dropout, seed):
    check(*drawn, dropout, seed=seed)


@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("kind", (*PLAIN, Grouped), ids=lambda kind: kind.__name__)
def test_grouped_convolution_equals_a_loop_over_rows(kind, dropout):
    shape = (6, 4) if kind is LAYERS.Conv1D else (5, 5, 4)
    check(kind(4, 3, groups=2), shape, dropout, traced=True)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("stride", "rate"), [(2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("shape", [(9, 9, 4), (12, 10, 3)], ids=str)
def test_depthwise_convolution_with_stride_and_dilation(shape, stride, rate, padding):
    layer = LAYERS.DepthwiseConv2D(3, strides=stride, dilation_rate=rate, padding=padding)
    model = network(layer, shape, False)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    update = flat(sgd_update(model, x, loss, CLIP)[0])
    np.testing.assert_allclose(update, loop_over_rows(model, x, loss, CLIP), atol=1e-5)


@pytest.mark.slow
def test_grouped_convolutions_without_onednn():
    names = "test_grouped_convolution_equals or test_depthwise_convolution_with"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", names],
        cwd=root,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.split()[0] == "." * 18


SIDES = ((1, 7), (5, 6), (9, 4))
KERNELS = ((1, 2), (3, 3), (5, 1))
STRIDES_AND_RATES = ((1, 1), (2, 1), (3, 1), (4, 1), (1, 3))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("steps", STRIDES_AND_RATES)
def test_patches_by_slices_are_bit_equal_to_extract_patches(padding, steps):
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
def test_patches_of_unknown_size_equal_extract_patches(shape):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 6, 3)), tf.float32)
    layer = keras.layers.Conv2D(2, 3, strides=2, padding="same")
    layer.build(x.shape)
    traced = tf.function(
        lambda rows: linear._patches(layer, rows), input_signature=[tf.TensorSpec(shape)]
    )
    expected = tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
    np.testing.assert_array_equal(traced(x), expected)
