"""Calls of other optimizers' APIs are refused with the right call, also when traced."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.privacy.networks import LAYERS, cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy import DPSGD, DPAdam

MECHANISM = {"l2_norm_clip": 1.0, "noise_multiplier": 1.0}
X, LABELS = rows(4, (3,))
WAYS = {
    "eager": lambda call: call,
    "autograph": tf.function,
    "no autograph": lambda call: tf.function(call, autograph=False),
    "nested": lambda call: tf.function(tf.function(call)),
}


def of_keras(optimizer, model):
    loss = lambda: tf.reduce_mean(cross_entropy(LABELS)(model(X)))  # noqa: E731
    optimizer.minimize(loss, model.trainable_variables)


def of_keras_by_name(optimizer, model):
    loss = lambda: tf.reduce_mean(cross_entropy(LABELS)(model(X)))  # noqa: E731
    optimizer.minimize(loss, var_list=model.trainable_variables)


def of_tensorflow_privacy(optimizer, model):
    with tf.GradientTape() as tape:
        loss = cross_entropy(LABELS)(model(X))
    optimizer.minimize(loss, model.trainable_variables, tape=tape)


def with_labels(optimizer, model):
    optimizer.minimize(X, LABELS)


def with_a_reduced_loss(optimizer, model):
    optimizer.minimize(X, lambda logits: tf.reduce_mean(cross_entropy(LABELS)(logits)))


def by_tape(optimizer, model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(LABELS)(model(X)))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def by_apply(optimizer, model):
    optimizer.apply([tf.ones_like(v.value) for v in model.trainable_variables])


CALLS = {
    of_keras: "takes the batch's inputs first, not a function",
    of_keras_by_name: "has no argument var_list|missing",
    of_tensorflow_privacy: "has no argument tape",
    with_labels: "takes a function second, not ndarray",
    with_a_reduced_loss: "one value per example",
    by_tape: "did not come through clipping and noise",
    by_apply: "did not come through clipping and noise",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
def test_call_of_another_optimizer_is_refused_and_corrected(kind, call, way):
    model = dense_network()
    optimizer = kind(model, **MECHANISM)
    before = flat(values(model))
    with pytest.raises(UsageError, match=CALLS[call]) as error:
        WAYS[way](lambda: call(optimizer, model))()
    message = str(error.value)
    assert type(error.value) is UsageError and "\n" not in message
    if call is not with_a_reduced_loss:
        assert "minimize(inputs, per_example_loss)" in message
    np.testing.assert_array_equal(flat(values(model)), before)
    assert optimizer.iterations == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [UsageError, RunError])
def test_errors_of_the_package_leave_traced_functions_unchanged(kind, way):
    error = kind("one line")

    def fail(x):
        if x.shape.rank == 1:
            raise error
        return x

    with pytest.raises(kind) as result:
        WAYS[way](fail)(tf.ones([2]))
    assert result.value is error and str(result.value) == "one line"


def test_reduced_loss_of_unknown_batch_size_is_refused():
    model = dense_network()
    optimizer = DPSGD(model, **MECHANISM)
    before = flat(values(model))

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def step(x):
        return optimizer.minimize(x, lambda logits: tf.reduce_mean(logits)[tf.newaxis])

    with pytest.raises(tf.errors.InvalidArgumentError, match="one value per example"):
        step(X)
    np.testing.assert_array_equal(flat(values(model)), before)


def test_tf_keras_model_is_refused_by_name():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    with pytest.raises(UsageError, match=r"tf_keras \(Keras 2\) model; .* Keras 3"):
        DPAdam(model, **MECHANISM)


@pytest.mark.parametrize("model", [1e-3, None, "model", [tf.Variable(1.0)], LAYERS.Dense(2)])
def test_first_argument_that_is_not_a_model_is_refused(model):
    with pytest.raises(UsageError, match=r"expected a keras\.Model; the first argument"):
        DPAdam(model, **MECHANISM)


@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
def test_compile_is_refused_with_the_right_call(kind):
    model = dense_network()
    optimizer = kind(model, **MECHANISM)
    with pytest.raises(ValueError, match=r"minimize\(inputs, per_example_loss\)") as error:
        model.compile(optimizer=optimizer, loss="mse")
    assert kind.__name__ in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"minimize\(inputs, per_example_loss\)"):
        tf_keras.Sequential([tf_keras.layers.Dense(2)]).compile(optimizer=optimizer, loss="mse")


class Private(keras.Model):
    """Trains by DP-SGD in `fit`, as docs/dp-optimizer.md shows it."""

    def train_step(self, data):
        x, y = data
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        losses = self.private.minimize(x, lambda logits: loss(y, logits))
        return {"loss": tf.reduce_mean(losses)}


@pytest.mark.parametrize("eager", [False, True])
def test_fit_trains_through_a_train_step(eager):
    core = dense_network((3, 2))
    model = Private(core.inputs, core.outputs)
    model.private = DPSGD(model, learning_rate=1.0, noise_key=1, **MECHANISM)
    other = dense_network((3, 2))
    by_hand = DPSGD(other, learning_rate=1.0, noise_key=1, **MECHANISM)
    model.compile(jit_compile=False, run_eagerly=eager)
    model.fit(X, LABELS, batch_size=2, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for part in (slice(0, 2), slice(2, 4)):
            by_hand.minimize(X[part], cross_entropy(LABELS[part]))
    np.testing.assert_allclose(flat(values(model)), flat(values(other)), atol=1e-6)
    assert model.private.iterations == by_hand.iterations == 4


def test_fit_raises_the_usage_error():
    core = dense_network((3, 2))
    model = Private(core.inputs, core.outputs)
    model.private = DPSGD(model, **MECHANISM)
    model.layers[-1].bias.trainable = False
    model.compile(jit_compile=False)
    with pytest.raises(UsageError, match="make a new optimizer"):
        model.fit(X, LABELS, verbose=0)
