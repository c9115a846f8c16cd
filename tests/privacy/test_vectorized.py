"""Layers on which vectorisation crashes or is wrong are clipped row by row, correctly."""

import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS
from tf_mtl_privacy.privacy.clipping.vectorized import GROUPED, unsafe_operations

# Each network in a process of its own: a fault is a segmentation fault, or memory overwritten.
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
from tests.privacy.networks import (
    LAYERS, cross_entropy, flat, loop_over_rows, rows, sgd_update)

def attention(x): return LAYERS.MultiHeadAttention(4, 8)(x, x)
def grouped(x): return LAYERS.GroupQueryAttention(8, 4, 2)(x, x)
def einsum(x): return LAYERS.EinsumDense("abc,cd->abd", output_shape=(16, 24), bias_axes="d")(x)

class Own(LAYERS.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 24), name="w")
    def call(self, x):
        return tf.matmul(x, self.w)

def own(x): return Own()(x)

for name in sys.argv[3:]:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((16, 32))
    x = LAYERS.Flatten()(globals()[name](x))
    model = keras.Model(inputs, LAYERS.Dense(3)(x))
    x, labels = rows(int(sys.argv[2]), (16, 32), 3, 1, 0.5)
    expected = loop_over_rows(model, x, labels, 0.5)
    got = flat(sgd_update(
        model, x, cross_entropy(labels), 0.5, clipping=sys.argv[1], traced=True)[0])
    print(json.dumps([name, float(np.abs(got - expected).max()), float(np.abs(got).max())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clipping", "names"),
    [("vectorized", ("attention", "grouped", "einsum", "own")), ("per_example", ("attention",))],
)
def test_backends_equal_a_loop_on_products_with_a_weight(session_python, clipping, names):
    done = session_python(
        "-c", SCRIPT, clipping, "8", *names, env={"PYTHONPATH": os.environ["PYTHONPATH"]}
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [name for name, _, _ in results] == list(names)
    for name, gap, size in results:
        assert size > 1e-3 and gap < 1e-6, (name, gap)


def one(layer, shape):
    layer.build((None, *shape))
    weights = [v.value for v in layer.trainable_variables]

    def gradients(row):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(row[tf.newaxis]))
        return tape.gradient(total, weights)

    return gradients, tf.zeros([4, *shape])


class Inside(LAYERS.Layer):
    """Multiplies inside a loop, that is inside a nested function of the graph."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

    def call(self, x):
        return tf.while_loop(
            lambda i, y: i < 2, lambda i, y: (i + 1, tf.matmul(y, self.w)), [0, x]
        )[1]


class Looped(LAYERS.Layer):
    """Convolves inside a loop."""

    def __init__(self, groups):
        super().__init__()
        self.groups_of_kernel = groups

    def build(self, shape):
        channels = shape[-1] // self.groups_of_kernel
        self.w = self.add_weight(shape=(3, 3, channels, shape[-1]), name="w")

    def call(self, x):
        convolve = lambda i, y: (i + 1, keras.ops.conv(y, self.w, padding="same"))  # noqa: E731
        return tf.while_loop(lambda i, y: i < 2, convolve, [0, x])[1]


@pytest.mark.parametrize(
    ("layer", "shape", "result"),
    [
        (LAYERS.EinsumDense("abc,cd->abd", output_shape=(5, 2)), (5, 3), {"BatchMatMulV2"}),
        (Inside(), (5, 3), {"BatchMatMulV2"}),
        (LAYERS.Dense(2), (3,), set()),
        (LAYERS.Dense(2), (5, 3), set()),
        (LAYERS.Conv2D(2, 3), (5, 5, 2), set()),
        (LAYERS.Conv2D(2, 3, groups=2), (5, 5, 2), {GROUPED}),
        (LAYERS.Conv2D(2, 3, groups=2, data_format="channels_first"), (2, 5, 5), {GROUPED}),
        (LAYERS.Conv1D(2, 3, groups=2), (5, 2), {GROUPED}),
        (LAYERS.Conv3D(2, 3, groups=2), (5, 5, 5, 2), {GROUPED}),
        (Looped(1), (5, 5, 4), set()),
        (Looped(2), (5, 5, 4), {GROUPED}),
        (LAYERS.DepthwiseConv2D(3), (5, 5, 2), set()),
        (LAYERS.SeparableConv2D(2, 3), (5, 5, 2), set()),
        (LAYERS.Conv2DTranspose(2, 3), (5, 5, 2), set()),
        (LAYERS.LSTM(2), (5, 3), set()),
    ],
)
def test_unsafe_operations_are_found_in_the_graph(layer, shape, result):
    assert unsafe_operations(*one(layer, shape)) == result


def test_finding_unsafe_operations_changes_nothing():
    keras.utils.set_random_seed(1)
    layer = LAYERS.EinsumDense("abc,cd->abd", output_shape=(5, 2))
    gradients, rows = one(layer, (5, 3))
    before = [v.numpy() for v in layer.variables]
    unsafe_operations(gradients, rows)
    for old, variable in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
