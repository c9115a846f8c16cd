"""What ghost clipping takes and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS, cross_entropy, flat, rows, sgd_update
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD


def stack(*layers, shape=(4,), dtype="float32"):
    x = inputs = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def make(model, clipping="ghost"):
    return DPSGD(model, l2_norm_clip=1.0, noise_multiplier=1.0, clipping=clipping)


class MyDense(LAYERS.Dense):
    pass


UNKNOWN = {
    "Embedding": lambda: stack(LAYERS.Embedding(5, 2), LAYERS.Flatten(), dtype="int32"),
    "LSTM": lambda: stack(LAYERS.LSTM(2), shape=(3, 2)),
    "PReLU": lambda: stack(LAYERS.Dense(2), LAYERS.PReLU()),
    "Conv1D": lambda: stack(LAYERS.Conv1D(2, 2), LAYERS.Flatten(), shape=(3, 2)),
    "MyDense": lambda: stack(MyDense(2)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_layers_it_does_not_know_are_refused_by_name_with_what_to_use(name):
    with pytest.raises(UsageError, match=rf"\({name}\): ghost clipping .* clipping='vectorized'"):
        make(UNKNOWN[name]())


@pytest.mark.parametrize("name", ["Embedding", "PReLU", "Conv1D"])
def test_what_ghost_refuses_the_other_backends_do_alike(name):
    model = UNKNOWN[name]()
    if name == "Embedding":
        x = np.array([[0, 1, 1, 4], [2, 2, 2, 2], [3, 0, 1, 2]], np.int32)
    else:
        x = rows(3, model.input_shape[1:])[0]

    def loss(outputs):
        return tf.reduce_sum((outputs - 1) ** 2, 1)

    one, two = (
        flat(sgd_update(model, x, loss, 0.5, clipping=backend)[0])
        for backend in ("vectorized", "per_example")
    )
    assert np.abs(one).max() > 1e-3
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"data_format": "channels_first"}], ids=["groups", "layout"]
)
def test_convolutions_of_other_kinds_are_refused(options):
    layer = LAYERS.Conv2D(4, 3, **options)
    with pytest.raises(UsageError, match=next(iter(options))):
        make(stack(layer, LAYERS.Flatten(), shape=(8, 8, 8)))


def test_masks_between_layers_are_refused():
    layers = LAYERS.Masking(), LAYERS.Dense(2), LAYERS.GlobalAveragePooling1D()
    with pytest.raises(UsageError, match="masks"):
        make(stack(*layers, shape=(3, 4)))


def test_a_layer_used_twice_is_refused():
    shared = LAYERS.Dense(4)
    with pytest.raises(UsageError, match="used once"):
        make(stack(shared, shared))


def test_lora_is_refused():
    layer = LAYERS.Dense(4)
    model = stack(layer)
    layer.enable_lora(2)
    with pytest.raises(UsageError, match="knows no weights"):
        make(model)


def test_a_subclassed_model_is_refused():
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


def branching():
    """Nested models, branches that meet, a frozen layer, two inputs."""
    left, right = keras.Input((6,)), keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), LAYERS.Dense(5, "gelu"), LAYERS.Dense(6)])
    a = LAYERS.Add()([inner(left), left])
    b = LAYERS.Dense(6, trainable=False)(right) * 0.5
    x = LAYERS.Concatenate()([a, LAYERS.LeakyReLU()(b)])
    return keras.Model([left, right], LAYERS.Dense(3)(x))


def test_nested_branching_and_partly_frozen_models_agree():
    model = branching()
    (one, labels), (two, _) = rows(5, (6,), 3), rows(5, (6,), 3, seed=1)
    found = [
        flat(sgd_update(model, [one, two], cross_entropy(labels), 0.5, clipping=backend)[0])
        for backend in ("ghost", "vectorized", "per_example")
    ]
    assert np.abs(found[0]).max() > 1e-2
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)


def test_several_outputs():
    inputs = keras.Input((4,))
    x = LAYERS.Dense(5, "relu")(inputs)
    model = keras.Model(inputs, {"a": LAYERS.Dense(2)(x), "b": LAYERS.Dense(3)(x)})
    x, labels = rows(5, (4,))

    def loss(outputs):
        return cross_entropy(labels)(outputs["a"]) + cross_entropy(labels)(outputs["b"])

    found = [flat(sgd_update(model, x, loss, 0.5, clipping=b)[0]) for b in ("ghost", "vectorized")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_sequential_model_trains():
    model = keras.Sequential([keras.Input((4,)), LAYERS.Dense(3, "relu"), LAYERS.Dense(2)])
    x, labels = rows(5, (4,))
    found = [
        flat(sgd_update(model, x, cross_entropy(labels), 0.5, clipping=b)[0])
        for b in ("ghost", "vectorized")
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_dropout_runs_in_training_mode_and_its_gradient_is_of_one_pass():
    inputs = keras.Input((50,))
    model = keras.Model(inputs, LAYERS.Dense(1)(LAYERS.Dropout(0.5, seed=3)(inputs)))
    x = np.ones((2, 50), np.float32)
    for backend in ("ghost", "vectorized", "per_example"):
        (kernel, _), _ = sgd_update(model, x, lambda z: z[:, 0], 1e6, clipping=backend)
        # A kept input counts twice, a dropped one not at all: mean over two rows.
        assert set(np.round(kernel.ravel(), 5)) == {0.0, 1.0, 2.0}
