"""Updates of the networks against gradients taken with TensorFlow, one loss at a time."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_config
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models import losses
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.models.heads import build_discriminator
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training import steps
from tf_mtl_privacy.training.batches import as_tensors
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.training.steps import scale_gradient
from tf_mtl_privacy.types import Batch

TASKS = {"gender": 2, "age": 4}
BETA = 0.3


class Recorder:
    """An optimizer that records its gradients."""

    def build(self, variables):
        self.gradients = [tf.Variable(tf.zeros(v.shape)) for v in variables]

    def apply(self, gradients, variables):
        for recorded, gradient in zip(self.gradients, gradients, strict=True):
            recorded.assign(gradient)


def batch(rows=6, real=None):
    generator = np.random.default_rng(0)
    mask = np.ones(rows, bool) if real is None else np.arange(rows) < real
    fill = lambda values: np.where(mask, values, -1).astype(np.int32)  # noqa: E731
    return Batch(
        image=generator.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8),
        business={t: fill(generator.integers(0, c, rows)) for t, c in TASKS.items()},
        private=fill(generator.integers(0, 8, rows)),
        index=np.arange(rows),
        mask=mask,
    )


@pytest.fixture(scope="module")
def bundle():
    return build_bundle(tiny_config(), TASKS, 8)


def joint(bundle, config, optimizer, update=None, play=True, others=()):
    restoration = steps.make_restoration_loss(config, PerceptualLoss("none"))
    return steps.make_adversarial_step(
        bundle, config, optimizer, update, restoration, play=play, others=others
    )


def gradient_of(bundle, model, loss):
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        value = loss()
    return [np.array(g) for g in tape.gradient(value, variables)]


@pytest.mark.parametrize("objective", ["confusion", "paper"])
def test_joint_step_gives_each_network_the_papers_gradient(bundle, objective):
    config = dataclasses.replace(tiny_config().loss, objective=objective)
    data, recorder = batch(), Recorder()
    joint(bundle, config, recorder)(as_tensors(data), tf.constant(BETA))
    recorded = [np.array(g) for g in recorder.gradients]

    image = to_float(tf.constant(data.image))
    encode = lambda: bundle.encoder(image, training=False)  # noqa: E731
    business = lambda: tf.reduce_mean(  # noqa: E731
        losses.business_loss(bundle.business(encode()), data.business)
    )
    logits = lambda: bundle.discriminator(encode())  # noqa: E731
    signed = {
        "confusion": lambda: tf.reduce_mean(losses.confusion(logits())),
        "paper": lambda: -tf.reduce_mean(losses.paper_adversarial(logits(), data.private)),
    }[objective]
    restoring = lambda: tf.reduce_mean(  # noqa: E731
        losses.squared_error(bundle.restorer(encode()), image)
    )
    parts = [gradient_of(bundle, bundle.encoder, loss) for loss in (business, signed, restoring)]
    encoder = [
        config.alpha * b + BETA * a + config.gamma * r for b, a, r in zip(*parts, strict=True)
    ]
    expected = (
        encoder
        + gradient_of(bundle, bundle.business, business)
        + gradient_of(bundle, bundle.restorer, restoring)
    )
    for ours, theirs in zip(recorded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_joint_step_without_game_ignores_discriminator(bundle):
    config, data = tiny_config().loss, as_tensors(batch())
    recorded = []
    for play, beta in ((False, 5.0), (True, 0.0)):
        recorder = Recorder()
        joint(bundle, config, recorder, play=play)(data, tf.constant(beta))
        recorded.append([np.array(g) for g in recorder.gradients])
    for ours, theirs in zip(*recorded, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_joint_step_ignores_padding(bundle):
    config = tiny_config().loss
    whole = batch(real=4)
    cut = Batch(
        *[
            {t: v[:4] for t, v in part.items()} if isinstance(part, dict) else part[:4]
            for part in whole
        ]
    )
    actual = []
    for data in (whole, cut):
        recorder = Recorder()
        metrics = joint(bundle, config, recorder)(as_tensors(data), tf.constant(BETA))
        actual.append(([np.array(g) for g in recorder.gradients], metrics))
    for ours, theirs in zip(actual[0][0], actual[1][0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for name, value in actual[0][1].items():
        assert float(value) == pytest.approx(float(actual[1][1][name]), abs=1e-6)


def test_joint_step_updates_discriminator_only_by_its_own_update(bundle):
    config, data = tiny_config().loss, as_tensors(batch())
    before = [np.array(v) for v in bundle.discriminator.trainable_variables]
    joint(bundle, config, Recorder())(data, tf.constant(BETA))
    for old, variable in zip(before, bundle.discriminator.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable))

    update = steps.make_discriminator_update(bundle.discriminator, keras.optimizers.Adam(0.01))
    encoder = [np.array(v) for v in bundle.encoder.variables]
    joint(bundle, config, Recorder(), update)(data, tf.constant(BETA))
    moved = [
        not np.array_equal(old, np.array(v))
        for old, v in zip(before, bundle.discriminator.trainable_variables, strict=True)
    ]
    assert any(moved)
    for old, variable in zip(encoder, bundle.encoder.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable))


def test_joint_step_keeps_rows_independent(bundle):
    data = batch()
    image = data.image.copy()
    image[3] = 255 - image[3]
    for training in (False, True):
        first = bundle.encoder(data.image / np.float32(255), training=training)
        second = bundle.encoder(image / np.float32(255), training=training)
        others = np.arange(6) != 3
        np.testing.assert_allclose(np.array(first)[others], np.array(second)[others], atol=1e-6)
        assert not np.allclose(np.array(first)[3], np.array(second)[3])


def test_joint_step_ignores_rows_without_private_label(bundle):
    config = dataclasses.replace(tiny_config().loss, objective="paper")
    data = batch()
    unknown = data._replace(private=np.full(6, -1, np.int32))
    metrics = joint(bundle, config, Recorder())(as_tensors(unknown), tf.constant(BETA))
    assert float(metrics["adversarial_objective"]) == 0.0


@pytest.mark.parametrize("objective", ["confusion", "entropy"])
def test_label_free_objective_is_independent_of_labels(bundle, objective):
    config = dataclasses.replace(tiny_config().loss, objective=objective)
    data, actual = batch(real=5), []
    for private in (data.private, np.full(6, -1, np.int32), np.zeros(6, np.int32)):
        recorder = Recorder()
        metrics = joint(bundle, config, recorder)(
            as_tensors(data._replace(private=private)), tf.constant(BETA)
        )
        actual.append(([np.array(g) for g in recorder.gradients], metrics))
    for gradients, metrics in actual[1:]:
        for ours, theirs in zip(gradients, actual[0][0], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert metrics["adversarial_objective"] == actual[0][1]["adversarial_objective"]


def test_objective_against_several_discriminators_is_their_mean(bundle):
    config, data = tiny_config().loss, as_tensors(batch())
    model = tiny_config().model
    others = [
        build_discriminator(
            bundle.discriminator.input_shape[1:],
            8,
            shape="dense",
            units=model.business_units,
            seed=n,
        )
        for n in (1, 2)
    ]
    alone = []
    for one in (bundle.discriminator, *others):
        recorder = Recorder()
        with_one = dataclasses.replace(bundle, discriminator=one)
        metrics = joint(with_one, config, recorder)(data, tf.constant(BETA))
        alone.append(([np.array(g) for g in recorder.gradients], metrics["adversarial_objective"]))
    recorder = Recorder()
    metrics = joint(bundle, config, recorder, others=others)(data, tf.constant(BETA))
    values = [float(value) for _, value in alone]
    assert len(set(values)) == 3
    assert float(metrics["adversarial_objective"]) == pytest.approx(np.mean(values), rel=1e-6)
    for recorded, *parts in zip(recorder.gradients, *(g for g, _ in alone), strict=True):
        np.testing.assert_allclose(recorded, np.mean(parts, axis=0), atol=1e-6)


def test_private_discriminator_update_has_no_gradient_to_encoder(bundle):
    optimizer = DPAdam(
        bundle.discriminator,
        learning_rate=0.01,
        l2_norm_clip=1.0,
        noise_multiplier=1.0,
    )
    update = steps.make_discriminator_update(bundle.discriminator, optimizer)
    features = tf.Variable(tf.random.stateless_normal((6, 8, 8, 4), [1, 2]))
    labels = tf.constant(batch().private)
    with tf.GradientTape() as tape:
        loss = update(features, labels, tf.ones(6, tf.bool))
    assert tape.gradient(loss, features) is None


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, -2.0])
def test_scale_gradient_is_identity_forward_and_scaled_backward(scale):
    x = tf.constant([1.0, -2.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scale_gradient(x, scale)
        loss = tf.reduce_sum(y**2)
    assert tf.reduce_all(y == x)
    # d/dx sum x^2 = 2x, times the scale.
    assert tape.gradient(loss, x).numpy() == pytest.approx([2 * scale, -4 * scale, 6 * scale])


def test_scale_gradient_takes_tensor_inside_function():
    @tf.function
    def gradient(x, scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(scale_gradient(x, scale))
        return tape.gradient(loss, x)

    assert gradient(tf.zeros(2), tf.constant(0.25)).numpy() == pytest.approx([0.25, 0.25])
