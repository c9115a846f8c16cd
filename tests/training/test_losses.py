"""Losses against NumPy in double precision, at extreme logits and with masked rows."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import log_loss

from tf_mtl_privacy.config import LossConfig
from tf_mtl_privacy.models import losses

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 3, (40, 8)).astype(np.float32)
LABELS = RNG.integers(0, 8, 40).astype(np.int32)
# Certain and right, certain and wrong, all equal, huge and equal, two classes in a tie.
EXTREME = np.array(
    [
        [1e4, 0, 0],
        [0, 1e4, 0],
        [0, 0, 0],
        [1e4, 1e4, 1e4],
        [5, 5, -1e4],
        [200, 100, 0],
        [-1e4, -2e4, -3e4],
    ],
    np.float32,
)
EXTREME_LABELS = np.array([0, 0, 1, 2, 0, 0, 2], np.int32)
PER_EXAMPLE = {
    "cross_entropy": losses.cross_entropy,
    "paper_adversarial": losses.paper_adversarial,
    "bounded_adversarial": losses.bounded_adversarial,
}
# Objectives that read no label.
LABEL_FREE = {"confusion": losses.confusion, "entropy": losses.entropy}


def _log_shares(logits):
    logits = logits.astype(np.float64)
    return logits - logsumexp(logits, axis=-1, keepdims=True)


def _expected_adversarial(logits, labels):
    """The formula as printed, class by class, with the others' logits summed in float64."""
    logits = logits.astype(np.float64)
    values = []
    for row, label in zip(logits, labels, strict=True):
        total = logsumexp(row)
        value = -(row[label] - total)
        for k in range(len(row)):
            if k != label:
                value -= logsumexp(np.delete(row, k)) - total
        values.append(value)
    return np.array(values)


def test_cross_entropy_is_scikit_learns_log_loss():
    ours = losses.cross_entropy(LOGITS, LABELS).numpy()
    assert ours.shape == (40,) and ours.dtype == np.float32
    expected = log_loss(LABELS, softmax(LOGITS.astype(np.float64), axis=1), labels=range(8))
    assert ours.mean() == pytest.approx(expected, rel=1e-5)
    one_by_one = -_log_shares(LOGITS)[np.arange(40), LABELS]
    np.testing.assert_allclose(ours, one_by_one, rtol=1e-5, atol=1e-6)


def test_business_loss_is_the_sum_over_tasks():
    ages = RNG.integers(-1, 4, 40).astype(np.int32)
    age_logits = RNG.normal(0, 1, (40, 4)).astype(np.float32)
    ours = losses.business_loss(
        {"gender": LOGITS, "age": age_logits}, {"age": ages, "gender": LABELS}
    )
    age_part = -_log_shares(age_logits)[np.arange(40), ages]
    expected = -_log_shares(LOGITS)[np.arange(40), LABELS] + np.where(ages < 0, 0, age_part)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_paper_adversarial_against_double_precision():
    ours = losses.paper_adversarial(LOGITS, LABELS)
    np.testing.assert_allclose(ours, _expected_adversarial(LOGITS, LABELS), rtol=1e-5)


def test_paper_adversarial_by_hand():
    # Shares 1/2, 1/4, 1/4 and class 0: -log(1/2) - 2 log(3/4).
    logits = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    expected = -np.log(0.5) - 2 * np.log(0.75)
    ours = losses.paper_adversarial(logits, np.array([0])).numpy()
    assert ours[0] == pytest.approx(expected, rel=1e-6)


def test_paper_adversarial_at_extreme_logits():
    ours = losses.paper_adversarial(EXTREME, EXTREME_LABELS).numpy()
    np.testing.assert_allclose(
        ours, _expected_adversarial(EXTREME, EXTREME_LABELS), rtol=1e-5, atol=1e-5
    )
    # Class 0 got a logit of 1e4 less: once for the class missed, once for the one named instead.
    assert ours[1] == pytest.approx(2e4 - np.log(2), rel=1e-6)


def test_confusion_is_minimal_at_uniform():
    uniform = losses.confusion(np.full((1, 8), 2.5, np.float32)).numpy()
    assert uniform[0] == pytest.approx(np.log(8), rel=1e-6)
    ours = losses.confusion(LOGITS).numpy()
    np.testing.assert_allclose(ours, -_log_shares(LOGITS).mean(axis=1), rtol=1e-5)
    assert (ours > np.log(8)).all()


def test_entropy_against_scipy():
    ours = losses.entropy(LOGITS).numpy()
    np.testing.assert_allclose(
        ours, scipy_entropy(softmax(LOGITS.astype(float), axis=1), axis=1), rtol=1e-5
    )
    extreme = losses.entropy(EXTREME).numpy()
    expected = [0, 0, np.log(3), np.log(3), np.log(2), 0, 0]
    np.testing.assert_allclose(extreme, expected, atol=1e-6)
    assert (ours > 0).all() and (ours < np.log(8)).all()


def test_bounded_objective_is_flat_at_chance():
    """With K = 3 a uniform output costs log 3 + 2 log(3/2), worked by hand."""
    uniform = np.log(3) + 2 * np.log(1.5)
    # Shares of the right class: 1/2 (better than chance), 1/3, 1/100 (wrong, and certain of it).
    shares = np.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.01, 0.98, 0.01]], np.float32)
    variable = tf.Variable(np.log(shares))
    with tf.GradientTape() as tape:
        values = losses.bounded_adversarial(variable, np.zeros(3, int))
        total = tf.reduce_sum(values)
    expected = [-np.log(0.5) - 2 * np.log(0.75), uniform, uniform]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    gradient = np.abs(tape.gradient(total, variable).numpy()).max(axis=1)
    assert gradient[0] > 0.1 and gradient[2] == 0


def test_bounded_objective_below_bound_is_the_papers():
    ours = losses.bounded_adversarial(LOGITS, LABELS).numpy()
    bound = np.log(8) + 7 * np.log(8 / 7)
    expected = np.minimum(_expected_adversarial(LOGITS, LABELS), bound)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert (expected == bound).any() and (expected < bound).any()


@pytest.mark.parametrize("name", [*PER_EXAMPLE, *LABEL_FREE])
def test_gradients_are_right_and_finite_at_extreme_logits(name):
    for logits, labels in ((EXTREME, EXTREME_LABELS), (LOGITS, LABELS)):
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            if name in LABEL_FREE:
                total = tf.reduce_sum(LABEL_FREE[name](variable))
            else:
                total = tf.reduce_sum(PER_EXAMPLE[name](variable, labels))
        gradient = tape.gradient(total, variable).numpy()
        assert np.isfinite(gradient).all()
        # Adding a constant to all logits changes no loss.
        np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-4)


@pytest.mark.parametrize("label", [0, 5])
def test_gradient_of_paper_adversarial_against_differences(label):
    row = RNG.normal(0, 2, (1, 6)).astype(np.float32)
    variable = tf.Variable(row)
    with tf.GradientTape() as tape:
        value = losses.paper_adversarial(variable, np.array([label]))[0]
    gradient = tape.gradient(value, variable).numpy()[0]
    for k in range(6):
        step = np.eye(6)[k][None] * 1e-5
        rise = _expected_adversarial(row + step, [label]) - _expected_adversarial(
            row - step, [label]
        )
        assert gradient[k] == pytest.approx(rise[0] / 2e-5, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_unknown_labels_add_nothing(name):
    labels = LABELS.copy()
    labels[::3] = -1
    variable = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        values = PER_EXAMPLE[name](variable, labels)
        total = tf.reduce_sum(values)
    gradient = tape.gradient(total, variable).numpy()
    assert (values.numpy()[::3] == 0).all() and (gradient[::3] == 0).all()
    whole = PER_EXAMPLE[name](LOGITS, LABELS).numpy()
    rest = np.arange(40) % 3 != 0
    assert (values.numpy()[rest] == whole[rest]).all() and (whole[rest] > 0).all()
    moved = np.abs(gradient[rest]).max(axis=1) > 0
    assert moved.any() if name == "bounded_adversarial" else moved.all()


def test_objectives_of_the_encoder():
    paper = losses.adversarial_objective("paper")(LOGITS, LABELS)
    np.testing.assert_array_equal(paper, -losses.paper_adversarial(LOGITS, LABELS).numpy())
    bounded = losses.adversarial_objective("paper_bounded")(LOGITS, LABELS)
    np.testing.assert_array_equal(bounded, -losses.bounded_adversarial(LOGITS, LABELS).numpy())
    confused = losses.adversarial_objective("confusion")(LOGITS, LABELS)
    np.testing.assert_array_equal(confused, losses.confusion(LOGITS).numpy())
    spread = losses.adversarial_objective("entropy")(LOGITS, LABELS)
    np.testing.assert_array_equal(spread, -losses.entropy(LOGITS).numpy())
    with pytest.raises(KeyError):
        losses.adversarial_objective("other")


def test_every_configured_objective_exists():
    choices = LossConfig.__dataclass_fields__["objective"].metadata["choices"]
    for name in choices:
        assert losses.adversarial_objective(name)(LOGITS, LABELS).shape == (40,)


def test_only_flagged_objectives_read_labels():
    for name in LossConfig.__dataclass_fields__["objective"].metadata["choices"]:
        objective = losses.adversarial_objective(name)
        values = [objective(LOGITS, (LABELS + shift) % 8).numpy() for shift in (0, 1)]
        unknown = objective(LOGITS, np.full(40, -1)).numpy()
        reads = not np.array_equal(*values)
        assert reads == LossConfig(objective=name).objective_reads_labels
        assert np.array_equal(unknown, values[0]) == (not reads)


def test_every_objective_but_the_papers_is_bounded_from_below():
    sure = np.concatenate([EXTREME, 1e4 * EXTREME])
    labels = np.concatenate([EXTREME_LABELS, EXTREME_LABELS])
    least = {
        "confusion": np.log(3),
        "entropy": -np.log(3),
        "paper_bounded": -(np.log(3) + 2 * np.log(1.5)),
    }
    for name, bound in least.items():
        values = losses.adversarial_objective(name)(sure, labels).numpy()
        assert values.min() == pytest.approx(bound, rel=1e-5)
    assert losses.adversarial_objective("paper")(sure, labels).numpy().min() < -1e4


def test_squared_error_and_psnr():
    image = RNG.uniform(0, 1, (5, 8, 6, 3)).astype(np.float32)
    restored = np.clip(image + RNG.normal(0, 0.05, image.shape), 0, 1).astype(np.float32)
    restored[4] = image[4]
    error = ((restored.astype(np.float64) - image) ** 2).reshape(5, -1).mean(axis=1)
    np.testing.assert_allclose(losses.squared_error(restored, image), error, rtol=1e-5)
    decibels = losses.psnr(restored, image).numpy()
    np.testing.assert_allclose(decibels[:4], -10 * np.log10(error[:4]), rtol=1e-5)
    assert decibels[4] == pytest.approx(100)


def test_psnr_by_hand_and_its_gradient_at_identity():
    grey = tf.fill([1, 4, 4, 3], 0.5)
    assert losses.psnr(grey + 0.1, grey).numpy()[0] == pytest.approx(20, abs=1e-4)
    with tf.GradientTape() as tape:
        tape.watch(grey)
        value = tf.reduce_sum(losses.psnr(grey, tf.identity(grey)))
    assert np.isfinite(tape.gradient(value, grey).numpy()).all()


def test_masked_mean_ignores_padding():
    values = np.array([1.0, 5.0, np.nan, np.inf], np.float32)
    mask = np.array([True, True, False, False])
    variable = tf.Variable(values)
    with tf.GradientTape() as tape:
        mean = losses.masked_mean(variable, mask)
    assert mean.numpy() == 3.0 and mean.dtype == tf.float32
    np.testing.assert_array_equal(tape.gradient(mean, variable), [0.5, 0.5, 0, 0])
    assert losses.masked_mean(variable, np.zeros(4, bool)).numpy() == 0.0


def test_padded_rows_do_not_change_the_mean_loss():
    padded = np.concatenate([LOGITS, RNG.normal(0, 100, (7, 8)).astype(np.float32)])
    labels = np.concatenate([LABELS, np.full(7, -1, np.int32)])
    mask = np.arange(47) < 40
    for loss in PER_EXAMPLE.values():
        whole = losses.masked_mean(loss(padded, labels), mask)
        np.testing.assert_allclose(whole, loss(LOGITS, LABELS).numpy().mean(), rtol=1e-6)
