"""Learning rates and the other hyperparameters of the update rules."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.privacy.networks import cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD, DPAdam

NAN, INF = float("nan"), float("inf")


def without_noise(rate, kind=DPSGD, **options):
    model = dense_network()
    mechanism = {"l2_norm_clip": 1.0, "noise_multiplier": 0.0, "allow_zero_noise": True}
    return model, kind(model, learning_rate=rate, **(mechanism | options))


def moves(rate, steps, *, traced):
    """Returns the distance of each of `steps` updates, always from the same start."""
    model, optimizer = without_noise(rate)
    x, labels = rows(5, (3,))
    step = lambda: optimizer.minimize(x, cross_entropy(labels))  # noqa: E731
    step, start, result = tf.function(step) if traced else step, values(model), []
    for _ in range(steps):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        step()
        result.append(flat(start) - flat(values(model)))
    return result


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5 * 2.0 ** -keras.ops.cast(step, "float32")


class Turning(keras.optimizers.schedules.LearningRateSchedule):
    """0.5 at first, then another value."""

    def __init__(self, other):
        self.other = other

    def __call__(self, step):
        return keras.ops.where(step > 0, self.other, 0.5)


SCHEDULES = {
    "exponential": (
        keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.25),
        [0.5 * 0.25 ** (k / 2) for k in range(4)],
    ),
    "cosine": (
        keras.optimizers.schedules.CosineDecay(0.8, 3),
        [0.4 * (1 + np.cos(np.pi * k / 3)) for k in range(4)],
    ),
    "piecewise": (
        keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.25, 0.125]),
        [0.5, 0.5, 0.25, 0.125],
    ),
    "own": (Halving(), [0.5, 0.25, 0.125, 0.0625]),
    "tf_keras": (
        tf_keras.optimizers.schedules.InverseTimeDecay(0.5, 1, 1.0),
        [0.5, 0.25, 0.5 / 3, 0.125],
    ),
    "function": (lambda: 0.25, [0.25] * 4),
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_sets_the_rate_of_each_update(name, traced):
    schedule, expected = SCHEDULES[name]
    (whole,) = moves(1.0, 1, traced=False)
    assert np.abs(whole).max() > 0.01
    for rate, moved in zip(expected, moves(schedule, 4, traced=traced), strict=True):
        np.testing.assert_allclose(moved, rate * whole, atol=1e-6)


def test_adam_with_a_schedule_equals_assigned_numbers():
    x, labels = rows(5, (3,))
    model, optimizer = without_noise(Halving(), DPAdam)
    other, plain = without_noise(0.5, DPAdam)
    for number in range(3):
        assert optimizer.learning_rate == pytest.approx(0.5 / 2**number)
        plain.learning_rate = 0.5 / 2**number
        optimizer.minimize(x, cross_entropy(labels))
        plain.minimize(x, cross_entropy(labels))
        np.testing.assert_array_equal(flat(values(model)), flat(values(other)))


def test_schedule_continues_after_restart_and_restore():
    x, labels = rows(5, (3,))
    _, optimizer = without_noise(Halving())
    for _ in range(3):
        optimizer.minimize(x, cross_entropy(labels))
    optimizer.restart()
    assert (optimizer.iterations, optimizer.learning_rate) == (3, 0.0625)
    _, again = without_noise(Halving())
    for kept, variable in zip(optimizer.variables, again.variables, strict=True):
        variable.assign(kept)
    assert (again.iterations, again.learning_rate) == (3, 0.0625)


@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
@pytest.mark.parametrize("rate", [-0.1, NAN, INF, -INF, 1e39, "0.1", None, True, [0.1], -1e-30])
def test_invalid_learning_rate_is_refused(kind, rate):
    with pytest.raises(UsageError, match="learning_rate") as error:
        without_noise(rate, kind)
    assert "\n" not in str(error.value)
    _, optimizer = without_noise(0.5, kind)
    with pytest.raises(UsageError, match="learning_rate"):
        optimizer.learning_rate = rate
    assert optimizer.learning_rate == 0.5


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0.25), np.float64(0.25), 3, np.int64(3)])
def test_zero_and_numpy_numbers_are_accepted_rates(rate):
    _, optimizer = without_noise(rate)
    assert optimizer.learning_rate == float(rate)


@pytest.mark.parametrize(
    "schedule",
    [
        keras.optimizers.schedules.ExponentialDecay(-0.5, 2, 0.25),
        keras.optimizers.schedules.ExponentialDecay(NAN, 2, 0.25),
        lambda: -0.1,
        lambda step: 0.1,
        lambda: [0.1, 0.2],
    ],
    ids=["negative", "nan", "negative function", "function of the step", "list"],
)
def test_schedule_with_an_invalid_first_rate_is_refused(schedule):
    with pytest.raises(UsageError, match="learning_rate"):
        without_noise(schedule)


@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("bad", [-0.25, NAN, INF])
def test_schedule_with_an_invalid_later_rate_moves_no_weight(kind, traced, bad):
    model, optimizer = without_noise(Turning(bad), kind)
    x, labels = rows(5, (3,))
    step = lambda: optimizer.minimize(x, cross_entropy(labels))  # noqa: E731
    step = tf.function(step) if traced else step
    step()
    before = flat(values(model))
    with pytest.raises(tf.errors.InvalidArgumentError, match="learning_rate"):
        step()
    np.testing.assert_array_equal(flat(values(model)), before)
    assert optimizer.iterations == 1


def test_schedule_and_number_do_not_replace_each_other():
    with pytest.raises(UsageError, match="made with a schedule"):
        without_noise(Halving())[1].learning_rate = 0.1
    with pytest.raises(UsageError, match="cannot be replaced by a schedule"):
        without_noise(0.1)[1].learning_rate = Halving()


def test_rate_is_assigned_inside_a_function():
    _, optimizer = without_noise(0.5)

    @tf.function
    def assign(value):
        optimizer.learning_rate = value
        return optimizer.learning_rate * 2

    assert assign(tf.constant(0.25)).numpy() == 0.5 and optimizer.learning_rate == 0.25
    with pytest.raises(tf.errors.InvalidArgumentError, match="learning_rate"):
        assign(tf.constant(-1.0))
    assert optimizer.learning_rate == 0.25


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *[(DPAdam, beta, v) for beta in ("beta_1", "beta_2") for v in (-0.1, 1.0, 1.5, NAN, "a")],
        *[(DPAdam, "epsilon", v) for v in (0.0, -1e-7, NAN, INF, None)],
        *[(DPSGD, "momentum", v) for v in (-0.1, 1.1, NAN, None)],
    ],
)
def test_hyperparameter_out_of_range_is_refused_by_name(kind, name, value):
    with pytest.raises(UsageError, match=name):
        without_noise(0.1, kind, **{name: value})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"l2_norm_clip": "1"}, "l2_norm_clip='1': expected a number"),
        ({"l2_norm_clip": None}, "l2_norm_clip=None: expected a number"),
        ({"l2_norm_clip": True}, "l2_norm_clip=True: expected a number"),
        ({"l2_norm_clip": 1e-20}, "l2_norm_clip=1e-20: expected 1e-15 to 1e"),
        ({"l2_norm_clip": 1e30}, "l2_norm_clip=1e.30: expected 1e-15 to 1e"),
        ({"noise_multiplier": None}, "noise_multiplier=None: expected a number"),
        ({"noise_multiplier": 1e-16}, "noise_multiplier=1e-16: times"),
        ({"noise_multiplier": 1e19}, "noise_multiplier=1e.19: times"),
        ({"expected_batch_size": "8"}, "expected_batch_size='8'"),
        ({"expected_batch_size": INF}, "expected_batch_size=inf"),
        ({"expected_batch_size": 1e-40}, "expected_batch_size=1e-40"),
        ({"noise_key": -1}, "noise_key=-1"),
        ({"noise_key": 2**128}, "noise_key=34028"),
        ({"noise_key": 0.5}, "noise_key=0.5"),
    ],
)
def test_number_outside_float32_is_refused(options, match):
    mechanism = {"l2_norm_clip": 1.0, "noise_multiplier": 1.0} | options
    with pytest.raises(UsageError, match=match):
        DPSGD(dense_network(), **mechanism)


@pytest.mark.parametrize(("clip", "noise"), [(1e-15, 1.0), (1e15, 1000.0), (1e-3, 1e-12)])
def test_noise_at_the_ends_of_the_range_has_the_stated_size(clip, noise):
    model = dense_network((40, 30))
    optimizer = DPSGD(
        model,
        learning_rate=1.0,
        l2_norm_clip=clip,
        noise_multiplier=noise,
        expected_batch_size=clip * noise,
    )
    before = flat(values(model)).astype(np.float64)
    optimizer.minimize(np.zeros((1, 40), np.float32), cross_entropy([0]), np.zeros(1, bool))
    moved = before - flat(values(model))
    assert abs((moved**2).mean() - 1) < 6 * np.sqrt(2 / moved.size)
