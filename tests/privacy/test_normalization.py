"""The closed-form gradients of normalisation are those of Keras' own layers by autodiff."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS, cross_entropy, flat, rows, sgd_update
from tf_mtl_privacy.privacy.clipping import normalization, request

SHAPE = (5, 3, 8)
FLAGS = [(True, True), (True, False), (False, True), (False, False)]


def built(layer, shape, seed=0):
    """The layer with a scale and an offset that are not one and zero, a batch, cotangents."""
    generator = np.random.default_rng(seed)
    layer.build((None, *shape))
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) + 1)
    # Neither centred nor of one size: rows and channels differ.
    x = generator.normal(size=(6, *shape)) * generator.uniform(0.2, 2, shape) + 1.5
    delta = generator.normal(size=x.shape)
    return tf.constant(x, tf.float32), tf.constant(delta, tf.float32)


def by_autodiff(layer, x, delta):
    """Keras' output, and row by row the gradients of x and of each weight."""
    outputs, found = [], []
    for row in range(len(x)):
        with tf.GradientTape() as tape:
            part = x[row : row + 1]
            tape.watch(part)
            outputs.append(layer(part))
        raw = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(outputs[-1], [part, *raw], delta[row : row + 1])
        found.append([gradients[0][0], *gradients[1:]])
    return tf.concat(outputs, 0), [tf.stack(parts) for parts in zip(*found, strict=True)]


def closed_form(forward, layer, x, delta):
    with tf.GradientTape() as tape:
        copies = normalization.row_copies(layer, x)
        tape.watch([x, *copies])
        z = forward(layer, x, copies)
    return z, tape.gradient(z, [x, *copies], delta)


def check(forward, layer, x, delta, found=None):
    wanted = by_autodiff(layer, x, delta)
    found = found or closed_form(forward, layer, x, delta)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert len(found[1]) == len(wanted[1]) == 1 + len(layer.trainable_variables)
    for one, other in zip(found[1], wanted[1], strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("center", "scale"), FLAGS)
@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
@pytest.mark.parametrize("groups", [1, 2, 4, 8, -1])
def test_groups(groups, epsilon, center, scale):
    layer = LAYERS.GroupNormalization(groups, epsilon=epsilon, center=center, scale=scale)
    check(normalization.group_forward, layer, *built(layer, SHAPE))


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (8, 5, 3)), (2, (5, 8, 3)), (-1, (8,)), (-1, (1, 1, 8))]
)
def test_groups_along_other_axes_and_without_positions(axis, shape):
    layer = LAYERS.GroupNormalization(2, axis=axis)
    check(normalization.group_forward, layer, *built(layer, shape))


@pytest.mark.parametrize(("center", "scale"), FLAGS)
@pytest.mark.parametrize("axis", [-1, 2, [1, 2, 3], [1, 3]])
def test_layers(axis, center, scale):
    layer = LAYERS.LayerNormalization(axis, epsilon=0.01, center=center, scale=scale)
    check(normalization.layer_forward, layer, *built(layer, SHAPE))


def test_a_graph_without_known_batch_size_in_chunks(monkeypatch):
    monkeypatch.setattr(request, "_FLOATS_AT_ONCE", 1000)  # four rows at a time, the last overlaps
    layer = LAYERS.GroupNormalization(4)
    x, delta = built(layer, SHAPE)
    spec = tf.TensorSpec([None, *SHAPE])

    @tf.function(input_signature=[spec, spec])
    def found(x, delta):
        return closed_form(normalization.group_forward, layer, x, delta)

    check(normalization.group_forward, layer, x, delta, found(x, delta))


def test_a_normalisation_that_the_loss_does_not_see_gets_no_gradient():
    inputs = keras.Input((4, 6))
    unseen = LAYERS.GroupNormalization(3)(inputs)
    seen = LAYERS.Dense(2)(LAYERS.Flatten()(LAYERS.GroupNormalization(2)(inputs)))
    model = keras.Model(inputs, [seen, unseen])
    x, labels = rows(5, (4, 6))

    def loss(outputs):
        return cross_entropy(labels)(outputs[0])

    one, two = (
        flat(sgd_update(model, x, loss, 0.5, clipping=backend)[0])
        for backend in ("ghost", "vectorized")
    )
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert (np.abs(one) > 1e-6).sum() == one.size - 2 * 6
