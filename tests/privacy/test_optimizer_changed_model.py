"""A model whose layers or trainable weights changed since its optimizer was made is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS, cross_entropy, flat, rows
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD

BACKENDS = ("ghost", "vectorized", "per_example")


def network(norm_trainable=False, head_trainable=True):
    return keras.Sequential(
        [
            keras.Input((4,)),
            LAYERS.Dense(3, name="first"),
            LAYERS.BatchNormalization(trainable=norm_trainable, name="norm"),
            LAYERS.Dense(2, trainable=head_trainable, name="head"),
        ]
    )


def state(model):
    return flat([v.numpy() for v in model.variables])


def private(model, clipping="ghost"):
    return DPSGD(model, l2_norm_clip=1.0, noise_multiplier=1.0, clipping=clipping)


def freeze(model):
    model.get_layer("first").trainable = False


def unfreeze_norm(model):
    model.get_layer("norm").trainable = True


def unfreeze_all(model):
    model.trainable = False  # Keras does nothing where the flag has the value already.
    model.trainable = True


def add_weights(model):
    model.add(LAYERS.Dense(2, name="more"))


def add_without_weights(model):
    model.add(LAYERS.Activation("tanh", name="more"))


def remove(model):
    model.pop()


def freeze_weight(model):
    model.get_layer("first").bias.trainable = False


def adapt(model):
    model.get_layer("first").enable_lora(1)


CHANGES = {
    freeze: "layer first was frozen",
    unfreeze_norm: "layer norm was unfrozen",
    unfreeze_all: "layer norm was unfrozen",
    add_weights: "layer more was added",
    add_without_weights: "layer more was added",
    remove: "layer head was removed",
    freeze_weight: "bias is no longer trainable",
    adapt: "lora",
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("clipping", BACKENDS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_minimize_after_a_change_is_refused_and_moves_nothing(change, clipping, traced):
    model, (x, labels) = network(), rows(4, (4,))
    optimizer = private(model, clipping)
    change(model)
    before = state(model)
    step = tf.function(optimizer.minimize) if traced else optimizer.minimize
    with pytest.raises(UsageError, match=CHANGES[change]) as error:
        step(x, cross_entropy(labels))
    assert "make a new optimizer" in str(error.value) and "\n" not in str(error.value)
    np.testing.assert_array_equal(state(model), before)
    assert optimizer.iterations == 0


def test_an_unfrozen_weight_is_refused_by_name():
    model = network(head_trainable=False)
    optimizer = private(model)
    model.get_layer("head").trainable = True
    with pytest.raises(UsageError, match="layer head was unfrozen"):
        optimizer.minimize(rows(4, (4,))[0], cross_entropy(rows(4, (4,))[1]))


def test_a_new_optimizer_trains_what_is_unfrozen_and_leaves_what_is_frozen():
    model, (x, labels) = network(), rows(4, (4,))
    freeze(model)
    before = {layer.name: flat(layer.get_weights()) for layer in model.layers}
    private(model).minimize(x, cross_entropy(labels))
    after = {layer.name: flat(layer.get_weights()) for layer in model.layers}
    np.testing.assert_array_equal(before["first"], after["first"])
    np.testing.assert_array_equal(before["norm"], after["norm"])
    assert (before["head"] != after["head"]).all()


def test_a_change_and_its_reversal_train_on():
    model, (x, labels) = network(), rows(4, (4,))
    optimizer = private(model)
    freeze(model)
    model.get_layer("first").trainable = True
    optimizer.minimize(x, cross_entropy(labels))
    assert optimizer.iterations == 1


def test_a_traced_step_neither_trains_an_unfrozen_norm_nor_keeps_its_statistics():
    """A `tf.function` that was traced before a change goes on as the private update it was."""
    model, (x, labels) = network(), rows(4, (4,))
    optimizer = private(model)
    step = tf.function(lambda: optimizer.minimize(x, cross_entropy(labels)))
    step()
    norm = model.get_layer("norm")
    before = flat(norm.get_weights())
    norm.trainable = True
    step()
    np.testing.assert_array_equal(flat(norm.get_weights()), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel_regularizer", keras.regularizers.L2(0.1)),
        ("kernel_constraint", keras.constraints.NonNeg()),
    ],
)
def test_a_regularizer_or_constraint_that_is_set_later_is_refused(name, value):
    model, (x, labels) = network(), rows(4, (4,))
    optimizer = private(model)
    setattr(model.get_layer("first"), name, value)
    with pytest.raises(UsageError, match=name):
        optimizer.minimize(x, cross_entropy(labels))


class Own(LAYERS.Layer):
    """Hands a regularizer or a loss over without an attribute that names it."""

    def __init__(self, regularizer=None, loss=False, **options):
        super().__init__(**options)
        self.penalty, self.loss = regularizer, loss

    def build(self, shape):
        self.scale = self.add_weight(
            shape=(shape[-1],), regularizer=self.penalty, initializer="ones", name="scale"
        )

    def call(self, x):
        if self.loss:
            self.add_loss(keras.ops.sum(self.scale**2))
        return x * self.scale


@pytest.mark.parametrize(
    ("options", "match"),
    [({"regularizer": "l2"}, "scale has a regularizer"), ({"loss": True}, "add_loss")],
)
def test_a_loss_of_an_own_layer_that_the_update_would_not_see_is_refused(options, match):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, LAYERS.Dense(2)(Own(**options)(inputs)))
    with pytest.raises(UsageError, match=match):
        private(model, "vectorized")
