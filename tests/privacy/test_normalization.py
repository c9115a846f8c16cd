"""The closed-form gradients of normalisation equal autodiff of Keras' own layers."""

import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS
from tf_mtl_privacy.privacy.clipping import contribution, normalization

SHAPE = (5, 3, 8)
FLAGS = [(True, True), (True, False), (False, True), (False, False)]


def built(layer, shape, seed=0):
    """Builds the layer with random weights -> a batch and cotangents."""
    generator = np.random.default_rng(seed)
    layer.build((None, *shape))
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) + 1)
    # Rows and channels differ in mean and size.
    x = generator.normal(size=(6, *shape)) * generator.uniform(0.2, 2, shape) + 1.5
    delta = generator.normal(size=x.shape)
    return tf.constant(x, tf.float32), tf.constant(delta, tf.float32)


def by_autodiff(layer, x, delta):
    """Keras' output, and row by row the gradients of x and of each weight."""
    outputs, result = [], []
    for row in range(len(x)):
        with tf.GradientTape() as tape:
            part = x[row : row + 1]
            tape.watch(part)
            outputs.append(layer(part))
        raw = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(outputs[-1], [part, *raw], delta[row : row + 1])
        result.append([gradients[0][0], *gradients[1:]])
    return tf.concat(outputs, 0), [tf.stack(parts) for parts in zip(*result, strict=True)]


def closed_form(forward, layer, x, delta):
    with tf.GradientTape() as tape:
        copies = normalization.row_copies(layer, x)
        tape.watch([x, *copies])
        z = forward(layer, x, copies)
    return z, tape.gradient(z, [x, *copies], delta)


def check(forward, layer, x, delta, result=None):
    wanted = by_autodiff(layer, x, delta)
    result = result or closed_form(forward, layer, x, delta)
    np.testing.assert_allclose(result[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert len(result[1]) == len(wanted[1]) == 1 + len(layer.trainable_variables)
    for one, other in zip(result[1], wanted[1], strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("center", "scale"), FLAGS)
@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
@pytest.mark.parametrize("groups", [1, 2, 4, 8, -1])
def test_group_normalization_equals_autodiff(groups, epsilon, center, scale):
    layer = LAYERS.GroupNormalization(groups, epsilon=epsilon, center=center, scale=scale)
    check(normalization.group_forward, layer, *built(layer, SHAPE))


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (8, 5, 3)), (2, (5, 8, 3)), (-1, (8,)), (-1, (1, 1, 8))]
)
def test_group_normalization_along_other_axes_and_without_positions(axis, shape):
    layer = LAYERS.GroupNormalization(2, axis=axis)
    check(normalization.group_forward, layer, *built(layer, shape))


@pytest.mark.parametrize(("center", "scale"), FLAGS)
@pytest.mark.parametrize("axis", [-1, 2, [1, 2, 3], [1, 3]])
def test_layer_normalization_equals_autodiff(axis, center, scale):
    layer = LAYERS.LayerNormalization(axis, epsilon=0.01, center=center, scale=scale)
    check(normalization.layer_forward, layer, *built(layer, SHAPE))


def test_graph_of_unknown_batch_size_in_chunks_equals_autodiff(monkeypatch):
    monkeypatch.setattr(
        contribution, "_FLOATS_AT_ONCE", 1000
    )  # four rows at a time, the last overlaps
    layer = LAYERS.GroupNormalization(4)
    x, delta = built(layer, SHAPE)
    spec = tf.TensorSpec([None, *SHAPE])

    @tf.function(input_signature=[spec, spec])
    def result(x, delta):
        return closed_form(normalization.group_forward, layer, x, delta)

    check(normalization.group_forward, layer, x, delta, result(x, delta))
