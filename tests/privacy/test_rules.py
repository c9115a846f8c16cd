"""Layer rules of ghost clipping: those of the package, of users, and layers without one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.layer_rules import LayerRuleTests
from tests.privacy.networks import (
    BACKENDS,
    LAYERS,
    flat,
    loop_over_rows,
    rows,
    sgd_update,
    stack,
    values,
)
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD, register_layer_rule
from tf_mtl_privacy.privacy.clipping.contribution import (
    instantiated,
    outer_product,
    prefers_gram,
)


class TestDense(LayerRuleTests):
    variants = (
        ("rows", lambda: LAYERS.Dense(5), (7,)),
        ("no bias", lambda: LAYERS.Dense(5, use_bias=False), (7,)),
        ("positions, Gram", lambda: LAYERS.Dense(32), (2, 32)),
        ("positions, instantiated", lambda: LAYERS.Dense(2), (24, 3)),
    )


class TestConv2D(LayerRuleTests):
    variants = (
        ("Gram", lambda: LAYERS.Conv2D(24, 3), (4, 3, 16)),
        ("instantiated", lambda: LAYERS.Conv2D(2, 2, padding="same"), (6, 6, 2)),
        ("1x1", lambda: LAYERS.Conv2D(32, 1, use_bias=False), (1, 2, 32)),
        ("stride", lambda: LAYERS.Conv2D(3, 3, strides=2), (7, 7, 2)),
    )


class TestDepthwiseConv2D(LayerRuleTests):
    variants = (
        ("plain", lambda: LAYERS.DepthwiseConv2D(2, depth_multiplier=2), (4, 4, 2)),
        ("both", lambda: LAYERS.DepthwiseConv2D(2, strides=2, dilation_rate=2), (7, 7, 2)),
    )


class TestGroupNormalization(LayerRuleTests):
    variants = (("groups", lambda: LAYERS.GroupNormalization(2), (4, 4, 6)),)
    # Normalisation scales x to size 1 before its weights apply; large x only cost digits.
    sizes = (1.0, 1.0, 1.0, 1.0)


class TestLayerNormalization(TestGroupNormalization):
    variants = (("layer", LAYERS.LayerNormalization, (5, 6)),)


def test_variants_cover_both_ways_to_a_norm():
    assert prefers_gram(2, 32, 32) and prefers_gram(2, 144, 24)
    assert not prefers_gram(24, 3, 2) and not prefers_gram(36, 8, 2)


# Layers of a user, as in the docstring of `rules`.
class Scale(LAYERS.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale


@register_layer_rule(Scale)
def scale_gradients(layer, x, delta):
    return [instantiated(layer.scale, tf.reduce_sum(x * delta, list(range(1, x.shape.rank - 1))))]


class TestScale(LayerRuleTests):
    variants = (("rows", Scale, (6,)), ("positions", Scale, (4, 6)))


class Bilinear(LAYERS.Layer):
    """Two inputs, an activation of its own and a call with a `training` argument."""

    def build(self, shapes):
        self.kernel = self.add_weight(shape=(shapes[0][-1], 3), initializer="glorot_normal")
        self.dropped = LAYERS.Dropout(0.0)

    def call(self, pair, training=False):
        left, right = pair
        return tf.tanh(self.dropped(left * right, training=training) @ self.kernel)


@register_layer_rule(Bilinear)
def bilinear_gradients(layer, pair, delta):
    x = pair[0] * pair[1]
    return [outer_product(layer.kernel, x, delta * (1 - tf.tanh(x @ layer.kernel.value) ** 2))]


def loss(outputs):
    return tf.reduce_sum((outputs - 1) ** 2, 1)


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
def test_registered_rule_of_a_custom_layer_equals_a_loop_over_rows(traced):
    left, right = keras.Input((5,)), keras.Input((5,))
    joined = Bilinear()([Scale()(left), LAYERS.Dense(5, "relu")(right)])
    model = keras.Model([left, right], LAYERS.Dense(2)(joined))
    x = [rows(6, (5,), seed=seed)[0] for seed in (0, 1)]
    expected = loop_over_rows(model, x, loss, 0.7)
    assert np.abs(expected).max() > 1e-2
    for backend in BACKENDS:
        update = flat(sgd_update(model, x, loss, 0.7, clipping=backend, traced=traced)[0])
        np.testing.assert_allclose(update, expected, atol=1e-5, err_msg=backend)


def scaled(gradients):
    """A model with a new subclass of `Scale` that has these gradients as its rule."""
    kind = type("Other", (Scale,), {})
    register_layer_rule(kind)(gradients)
    return stack(kind(), LAYERS.Dense(2))


@pytest.mark.parametrize(
    ("gradients", "match"),
    [
        (lambda layer, x, delta: [], "one Contribution for each trainable weight"),
        (scale_gradients, None),
        (lambda *args: 2 * scale_gradients(*args), "one Contribution for each trainable weight"),
        (
            lambda layer, x, delta: [instantiated(layer.scale, tf.reduce_sum(x * delta, 0))],
            "one gradient per example",
        ),
    ],
    ids=["missing", "right", "twice", "summed over rows"],
)
def test_rule_without_one_gradient_per_example_and_weight_is_refused(gradients, match):
    model, (x, _) = scaled(gradients), rows(3, (4,))
    if match is None:
        sgd_update(model, x, loss, 1.0)
        return
    with pytest.raises(UsageError, match=rf"\(Other\): its layer rule must give {match}") as error:
        sgd_update(model, x, loss, 1.0)
    assert "\n" not in str(error.value)


def test_rule_summed_over_rows_is_refused_where_the_batch_size_is_unknown():
    model = scaled(lambda layer, x, delta: [instantiated(layer.scale, tf.reduce_sum(x * delta, 0))])
    before, optimizer = flat(values(model)), make(model)

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def step(x):
        return optimizer.minimize(x, loss)

    with pytest.raises(UsageError, match="one gradient per example"):
        step(rows(3, (4,))[0])
    np.testing.assert_array_equal(flat(values(model)), before)


def test_second_rule_for_a_class_is_refused():
    with pytest.raises(UsageError, match="Scale has a layer rule"):
        register_layer_rule(Scale)
    with pytest.raises(UsageError, match="Dense has a layer rule"):
        register_layer_rule(LAYERS.Dense)


class MyDense(LAYERS.Dense):
    pass


UNKNOWN = {
    "Embedding": lambda: stack(LAYERS.Embedding(5, 2), LAYERS.Flatten(), dtype="int32"),
    "LSTM": lambda: stack(LAYERS.LSTM(2), shape=(3, 2)),
    "PReLU": lambda: stack(LAYERS.Dense(2), LAYERS.PReLU()),
    "Conv1D": lambda: stack(LAYERS.Conv1D(2, 2), LAYERS.Flatten(), shape=(3, 2)),
    "MyDense": lambda: stack(MyDense(2)),
}


def make(model, clipping="ghost"):
    return DPSGD(model, l2_norm_clip=1.0, noise_multiplier=1.0, clipping=clipping)


@pytest.mark.parametrize("name", UNKNOWN)
def test_layer_without_a_rule_is_refused_by_name_with_the_alternatives(name):
    alternatives = r"only \(add one by @register_layer_rule\); use clipping='vectorized'"
    with pytest.raises(UsageError, match=rf"\({name}\): ghost clipping .* {alternatives}") as error:
        make(UNKNOWN[name]())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Embedding", "PReLU", "Conv1D"])
def test_layer_without_a_rule_is_clipped_alike_by_the_other_backends(name):
    model = UNKNOWN[name]()
    x = rows(3, model.input_shape[1:])[0]
    if name == "Embedding":
        x = np.array([[0, 1, 1, 4], [2, 2, 2, 2], [3, 0, 1, 2]], np.int32)
    expected = loop_over_rows(model, x, loss, 0.5)
    assert np.abs(expected).max() > 1e-3
    for backend in BACKENDS[1:]:
        update = flat(sgd_update(model, x, loss, 0.5, clipping=backend)[0])
        np.testing.assert_allclose(update, expected, atol=1e-5, err_msg=backend)


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"data_format": "channels_first"}], ids=["groups", "layout"]
)
def test_unsupported_convolutions_are_refused(options):
    with pytest.raises(UsageError, match=f"needs {next(iter(options))}="):
        make(stack(LAYERS.Conv2D(4, 3, **options), LAYERS.Flatten(), shape=(8, 8, 8)))


def test_keras_masks_are_refused():
    layers = LAYERS.Masking(), LAYERS.Dense(2), LAYERS.GlobalAveragePooling1D()
    with pytest.raises(UsageError, match="masks"):
        make(stack(*layers, shape=(3, 4)))


def test_layer_used_twice_is_refused():
    shared = LAYERS.Dense(4)
    with pytest.raises(UsageError, match="used once"):
        make(stack(shared, shared))


def test_lora_is_refused():
    layer = LAYERS.Dense(4)
    model = stack(layer)
    layer.enable_lora(2)
    with pytest.raises(UsageError, match="supports no weights"):
        make(model)


def test_subclassed_model_is_refused_by_ghost():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = LAYERS.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Mine()
    model(np.zeros((2, 4), np.float32))
    with pytest.raises(UsageError, match="functional"):
        make(model)
    make(model, "vectorized")
