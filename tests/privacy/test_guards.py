"""Models and settings to which DP-SGD does not apply are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import LAYERS, cross_entropy, dense_network, flat, rows, stack
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD, DPAdam, assert_rows_independent


def private(model, kind=DPAdam, **options):
    return kind(model, **({"l2_norm_clip": 1.0, "noise_multiplier": 1.0} | options))


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf")])
def test_clip_norm_without_a_bound_is_refused(clip):
    with pytest.raises(UsageError, match="l2_norm_clip"):
        private(dense_network(), l2_norm_clip=clip)


@pytest.mark.parametrize(
    ("noise", "allowed"), [(0.0, False), (-1.0, True), (float("nan"), True), (float("inf"), True)]
)
def test_noise_multiplier_without_privacy_is_refused(noise, allowed):
    with pytest.raises(UsageError, match="noise_multiplier"):
        private(dense_network(), noise_multiplier=noise, allow_zero_noise=allowed)


@pytest.mark.parametrize("size", [0, -1, float("nan")])
def test_expected_batch_size_out_of_range_is_refused(size):
    with pytest.raises(UsageError, match="expected_batch_size"):
        private(dense_network(), expected_batch_size=size)


def test_void_names_zero_noise_and_fixed_keys():
    assert private(dense_network()).void is None
    assert "zero" in private(dense_network(), noise_multiplier=0, allow_zero_noise=True).void
    assert "key" in private(dense_network(), noise_key=1).void


@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
@pytest.mark.parametrize("clipping", ["ghost", "per_example"])
def test_gradients_from_elsewhere_are_refused_also_after_a_private_step(kind, clipping):
    model, (x, labels) = dense_network(), rows(4, (3,))
    optimizer = private(model, kind, clipping=clipping)
    plain = [(tf.ones_like(v.value), v.value) for v in model.trainable_variables]
    for _ in range(2):
        for owner in (optimizer, optimizer._optimizer):
            with pytest.raises(UsageError, match="did not come through"):
                owner.apply_gradients(plain)
        with pytest.raises(UsageError, match="did not come through"):
            optimizer._optimizer.minimize(lambda: model(x), [v for _, v in plain])
        optimizer.minimize(x, cross_entropy(labels))


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
@pytest.mark.parametrize(
    "loss",
    [
        lambda logits: tf.reduce_mean(logits),
        lambda logits: logits,
        lambda logits: tf.reduce_mean(tf.reshape(logits, [2, -1]), 1),  # microbatches of two
    ],
    ids=["scalar", "matrix", "microbatches"],
)
def test_loss_that_is_not_one_value_per_example_is_refused(clipping, loss):
    with pytest.raises(UsageError, match="one value per example"):
        private(dense_network(), clipping=clipping).minimize(rows(4, (3,))[0], loss)


MIXERS = {
    "batch_norm": LAYERS.BatchNormalization,
    "layer_norm_over_rows": lambda: LAYERS.LayerNormalization(axis=0, center=False, scale=False),
    "minus_batch_mean": lambda: LAYERS.Lambda(lambda x: x - tf.reduce_mean(x, 0, keepdims=True)),
    "row_above": lambda: LAYERS.Lambda(lambda x: tf.roll(x, 1, 0)),
}


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
@pytest.mark.parametrize("name", MIXERS)
def test_layers_that_mix_examples_are_refused(name, clipping):
    with pytest.raises(UsageError, match=r"mixes the examples|influence each other"):
        private(stack(MIXERS[name](), LAYERS.Dense(2)), clipping=clipping)


class RunningMean(LAYERS.Layer):
    """Mixes no rows, but collects their mean."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, initializer="zeros")

    def call(self, x):
        self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, axis=0))
        return x


def test_layer_with_data_statistics_is_found_by_trial():
    with pytest.raises(UsageError, match="influence each other"):
        private(stack(RunningMean(), LAYERS.Dense(2)), clipping="vectorized")


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
@pytest.mark.parametrize("frozen", [False, True])
def test_layers_that_combine_two_rows_are_refused(name, frozen):
    """They do nothing in inference mode, so a trial in that mode cannot find them."""
    mixer = getattr(LAYERS, name)(trainable=not frozen)
    model = stack(mixer, LAYERS.Flatten(), LAYERS.Dense(2), shape=(8, 8, 3))
    with pytest.raises(UsageError, match="mixes the examples"):
        private(model)


class MixesInTraining(LAYERS.Layer):
    """Takes the batch's mean off, or another row's value on, in training mode only."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.seeds = kind, keras.random.SeedGenerator(3)

    def call(self, x, training=False):
        if not training:
            return x
        if self.kind == "mean":
            return x - tf.reduce_mean(x, 0, keepdims=True)
        return x + keras.random.shuffle(x, axis=0, seed=self.seeds)


@pytest.mark.parametrize("kind", ["mean", "partner"])
@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_mixing_in_training_mode_is_found_despite_random_numbers(kind, clipping):
    model = stack(MixesInTraining(kind), LAYERS.Dropout(0.5), LAYERS.Dense(2))
    with pytest.raises(UsageError, match="influence each other"):
        private(model, clipping=clipping)


def test_groups_of_eight_rows_are_found_by_trial():
    def minus_mean(x):
        whole = tf.shape(x)[0] // 8 * 8
        groups = tf.reshape(x[:whole], [-1, 8, x.shape[1]])
        groups -= tf.reduce_mean(groups, 1, keepdims=True)
        return tf.concat([tf.reshape(groups, [-1, x.shape[1]]), x[whole:]], 0)

    with pytest.raises(UsageError, match="influence each other"):
        private(stack(LAYERS.Lambda(minus_mean), LAYERS.Dense(2)))


def test_dropout_and_noise_layers_are_accepted():
    layers = LAYERS.Dropout(0.5), LAYERS.GaussianNoise(1.0), LAYERS.Dense(2)
    private(stack(*layers))


def test_operation_over_the_batch_is_found_by_trial():
    inputs = keras.Input((4,))
    x = LAYERS.Dense(3)(inputs)
    model = keras.Model(inputs, x - keras.ops.mean(x, axis=0, keepdims=True))
    with pytest.raises(UsageError, match="influence each other"):
        private(model)


def test_frozen_batch_norm_is_accepted():
    frozen = LAYERS.BatchNormalization(trainable=False)
    model, (x, labels) = stack(frozen, LAYERS.Dense(2)), rows(4, (4,))
    private(model).minimize(x, cross_entropy(labels))
    assert_rows_independent(model, x)


def encoder(norm):
    return stack(LAYERS.Conv2D(4, 3), norm, LAYERS.Flatten(), shape=(6, 6, 2))


def test_encoder_that_mixes_rows_is_found_except_in_inference_mode():
    head, x = dense_network((64, 2)), rows(4, (6, 6, 2))[0]
    grouped, batched = encoder(LAYERS.GroupNormalization(2)), encoder(LAYERS.BatchNormalization())
    assert_rows_independent(head, x, encoder=lambda rows_: grouped(rows_, training=True))
    assert_rows_independent(head, x, encoder=lambda rows_: batched(rows_, training=False))
    with pytest.raises(UsageError, match="influence each other"):
        assert_rows_independent(head, x, encoder=lambda rows_: batched(rows_, training=True))


def test_loss_that_mixes_rows_is_found():
    model, x = dense_network(), rows(4, (3,))[0]
    assert_rows_independent(model, x, per_example_loss=lambda z: tf.reduce_sum(z**2, 1))
    with pytest.raises(UsageError, match="influence each other"):
        assert_rows_independent(
            model, x, per_example_loss=lambda z: tf.reduce_sum((z - tf.reduce_mean(z, 0)) ** 2, 1)
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_low_precision_is_refused(policy):
    with pytest.raises(UsageError, match="float32 policy"):
        private(stack(LAYERS.Dense(2, dtype=policy)))


@pytest.mark.parametrize("name", ["kernel_regularizer", "activity_regularizer"])
def test_regularizers_are_refused(name):
    with pytest.raises(UsageError, match=name):
        private(stack(LAYERS.Dense(2, **{name: "l2"})))


def test_constraints_are_refused():
    with pytest.raises(UsageError, match="kernel_constraint"):
        private(stack(LAYERS.Dense(2, kernel_constraint="non_neg")))


def test_model_without_trainable_weights_is_refused():
    model = dense_network()
    model.trainable = False
    with pytest.raises(UsageError, match="no trainable weights"):
        private(model)


def test_trial_leaves_the_model_unchanged():
    normed = LAYERS.SpectralNormalization(LAYERS.Dense(3), power_iterations=3)
    model = stack(normed, LAYERS.Dense(2))
    before = [np.array(v) for v in model.variables]
    model(np.ones((2, 4), np.float32), training=True)
    assert any(
        (old != np.array(new)).any() for old, new in zip(before, model.variables, strict=True)
    )
    before = [np.array(v) for v in model.variables]
    private(model, clipping="per_example")
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new)


BACKENDS = ("ghost", "vectorized", "per_example")


def normalized_network(norm_trainable=False, head_trainable=True):
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


def optimizer_of(model, clipping="ghost"):
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
    model, (x, labels) = normalized_network(), rows(4, (4,))
    optimizer = optimizer_of(model, clipping)
    change(model)
    before = state(model)
    step = tf.function(optimizer.minimize) if traced else optimizer.minimize
    with pytest.raises(UsageError, match=CHANGES[change]) as error:
        step(x, cross_entropy(labels))
    assert "make a new optimizer" in str(error.value) and "\n" not in str(error.value)
    np.testing.assert_array_equal(state(model), before)
    assert optimizer.iterations == 0


def test_layer_unfrozen_after_construction_is_refused_by_name():
    model = normalized_network(head_trainable=False)
    optimizer = optimizer_of(model)
    model.get_layer("head").trainable = True
    with pytest.raises(UsageError, match="layer head was unfrozen"):
        optimizer.minimize(rows(4, (4,))[0], cross_entropy(rows(4, (4,))[1]))


def test_new_optimizer_trains_unfrozen_layers_only():
    model, (x, labels) = normalized_network(), rows(4, (4,))
    freeze(model)
    before = {layer.name: flat(layer.get_weights()) for layer in model.layers}
    optimizer_of(model).minimize(x, cross_entropy(labels))
    after = {layer.name: flat(layer.get_weights()) for layer in model.layers}
    np.testing.assert_array_equal(before["first"], after["first"])
    np.testing.assert_array_equal(before["norm"], after["norm"])
    assert (before["head"] != after["head"]).all()


def test_reverted_change_is_accepted():
    model, (x, labels) = normalized_network(), rows(4, (4,))
    optimizer = optimizer_of(model)
    freeze(model)
    model.get_layer("first").trainable = True
    optimizer.minimize(x, cross_entropy(labels))
    assert optimizer.iterations == 1


def test_traced_step_leaves_an_unfrozen_norm_unchanged():
    """A `tf.function` traced before the change keeps making the update that was traced."""
    model, (x, labels) = normalized_network(), rows(4, (4,))
    optimizer = optimizer_of(model)
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
def test_regularizer_or_constraint_set_later_is_refused(name, value):
    model, (x, labels) = normalized_network(), rows(4, (4,))
    optimizer = optimizer_of(model)
    setattr(model.get_layer("first"), name, value)
    with pytest.raises(UsageError, match=name):
        optimizer.minimize(x, cross_entropy(labels))


class OwnLayer(LAYERS.Layer):
    """Adds a regularizer or a loss without an attribute that names it."""

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
def test_added_loss_of_a_custom_layer_is_refused(options, match):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, LAYERS.Dense(2)(OwnLayer(**options)(inputs)))
    with pytest.raises(UsageError, match=match):
        optimizer_of(model, "vectorized")
