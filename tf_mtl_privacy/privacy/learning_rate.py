"""Learning rates of the private optimizers: numbers, schedules and functions, with checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.guards import check_number

_SCHEDULES = (
    keras.optimizers.schedules.LearningRateSchedule,
    tf_keras.optimizers.schedules.LearningRateSchedule,
)


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The step size as the legacy tf-keras optimizer asks for it, at each update.

    Args:
        value: a number >= 0; a `LearningRateSchedule` of Keras 3 or tf_keras, called with the
            number of updates made before this one; or a function without arguments.
        updates: gives the number of updates made, scalar int64.

    Raises:
        UsageError: `value` is none of these.
    """

    def __init__(self, value: Any, updates: Callable[[], tf.Tensor]) -> None:
        self._updates = updates
        self._variable: tf.Variable | None = None
        self._function: Callable[[tf.Tensor], Any] | None = None
        if isinstance(value, _SCHEDULES):
            self._function = value
        elif callable(value) and not isinstance(value, (type, tf.Variable)):
            if _needs_arguments(value):
                raise UsageError(
                    "learning_rate: a function must take no arguments; give a "
                    "keras.optimizers.schedules.LearningRateSchedule for a rate that depends on "
                    "the step"
                )
            self._function = lambda step: value()
        else:
            check_number("learning_rate", value, 0.0)
            self._variable = tf.Variable(
                float(value),
                dtype=tf.float32,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def check(self) -> None:
        """Asks for the first value, once `updates` can be called.

        Raises:
            UsageError: it is not a scalar, finite and >= 0.
        """
        try:
            self()
        except tf.errors.InvalidArgumentError as error:
            raise UsageError(" ".join(error.message.split())) from None

    def __call__(self, step: Any = None) -> tf.Tensor:
        """The step size of the next update, scalar float32, finite and >= 0.

        Args:
            step: ignored; tf-keras counts anew after a restart.

        Raises:
            tf.errors.InvalidArgumentError: the schedule's value is not finite and >= 0.
        """
        if self._variable is not None:
            return tf.convert_to_tensor(self._variable)
        assert self._function is not None
        updates = self._updates()
        rate = tf.convert_to_tensor(self._function(tf.cast(updates, tf.float32)))
        if rate.shape.rank != 0:
            raise UsageError(f"learning_rate: gave shape {rate.shape}: expected a scalar")
        rate = tf.cast(rate, tf.float32)
        fine = tf.logical_and(tf.math.is_finite(rate), rate >= 0)
        message = "learning_rate: the schedule's value must be finite and at least 0; value, step:"
        with tf.control_dependencies([tf.debugging.Assert(fine, [message, rate, updates])]):
            return tf.identity(rate)

    def assign(self, value: Any) -> None:
        """Sets another number.

        Args:
            value: a number >= 0.

        Raises:
            UsageError: not a finite number >= 0, or the rate is a schedule.
        """
        if self._variable is None:
            raise UsageError(
                "learning_rate: the optimizer was made with a schedule, which cannot be replaced; "
                "make a new optimizer, or make it with a number"
            )
        if isinstance(value, _SCHEDULES) or callable(value):
            raise UsageError(
                "learning_rate: a number cannot be replaced by a schedule; make a new optimizer "
                "with it"
            )
        if isinstance(value, (tf.Tensor, tf.Variable)) and tf.executing_eagerly():
            value = np.asarray(value).item()
        if isinstance(value, tf.Tensor):
            fine = tf.logical_and(tf.math.is_finite(value), value >= 0)
            message = "learning_rate: expected finite, at least 0; value:"
            with tf.control_dependencies([tf.debugging.Assert(fine, [message, value])]):
                value = tf.identity(tf.cast(value, tf.float32))
        else:
            check_number("learning_rate", value, 0.0)
        self._variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Nothing: the rate belongs to the optimizer that it was made for."""
        return {}


def _needs_arguments(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )
