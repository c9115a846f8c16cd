"""Adam and SGD with per-example clipping and Gaussian noise, for Keras 3 models."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import guards
from tf_mtl_privacy.privacy.clipping import make_backend
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, clip_any_batch, zero_rows
from tf_mtl_privacy.privacy.keys import NotCopied
from tf_mtl_privacy.privacy.noise import SecretNoise
from tf_mtl_privacy.privacy.tfp import dp_keras_optimizer

# The largest float32 below 1: with a decay of 1 the moments would ignore every gradient.
_BELOW_ONE = 1.0 - 2.0**-24
# Adam divides by the root of the second moment plus epsilon, and the moment may be zero.
_MIN_EPSILON = 1e-30
_SCHEDULES = (
    keras.optimizers.schedules.LearningRateSchedule,
    tf_keras.optimizers.schedules.LearningRateSchedule,
)
_USE = "call minimize(inputs, per_example_loss) for each batch"


class DPOptimizer(NotCopied):
    """DP-SGD (Abadi et al. 2016, algorithm 1) on a Keras 3 model; use `DPAdam` or `DPSGD`.

    Update rule and slots are those of tensorflow-privacy's DPKeras optimizer. `minimize` is the
    only way to move a weight: it computes the private gradient itself, adds
    `Normal(0, (noise_multiplier * l2_norm_clip)^2)` to the clipped sum, and divides by the
    expected batch size. Freeze, unfreeze or add layers before making the optimizer. Under a
    `tf.distribute` strategy, make model and optimizer in `strategy.scope()` and call `minimize` in
    `strategy.run`.

    An optimizer cannot be copied or pickled, because its copy would draw the same noise. Save its
    `variables` in a checkpoint.

    Args:
        model: a built Keras 3 model; its trainable variables are trained.
        l2_norm_clip: bound on each example's gradient norm over all variables together, > 0.
        noise_multiplier: noise standard deviation over `l2_norm_clip`, > 0.
        expected_batch_size: divisor of the noised sum, > 0: under Poisson sampling the mean
            number of rows. By default the number of rows of the batch over all replicas, masked
            ones included; a batch without rows is then refused.
        clipping: 'ghost', 'vectorized' or 'per_example'; the same update at different cost.
        allow_zero_noise: accept `noise_multiplier=0`, which is not private.
        noise_key: for tests: makes the noise repeatable, which is not private either.
        rule: 'adam' or 'sgd'.
        learning_rate: a number >= 0, a Keras 3 or tf_keras `LearningRateSchedule`, called with
            `iterations`, or a function without arguments.
        options: for the legacy tf-keras optimizer of that name.

    Attributes:
        void: reason why the updates are not private, or None.

    Raises:
        UsageError: a value or a model for which the guarantee would not hold; see `guards`.
        TypeError: the optimizer is copied or pickled.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        l2_norm_clip: float,
        noise_multiplier: float,
        expected_batch_size: float | None,
        clipping: str,
        allow_zero_noise: bool,
        noise_key: int | None,
        rule: str,
        learning_rate: Any,
        **options: Any,
    ) -> None:
        guards.check_model(model)
        guards.check_mechanism(
            l2_norm_clip, noise_multiplier, expected_batch_size, allow_zero_noise, noise_key
        )
        self._model, self._clip = model, float(l2_norm_clip)
        self._stddev = float(noise_multiplier) * self._clip
        self._expected = expected_batch_size
        # The legacy optimizer keeps its slots by tf.Variable, not by Keras 3 variable.
        self._raw = [variable.value for variable in model.trainable_variables]
        # Updates before the last `restart`.
        self._before = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._rate = LearningRate(learning_rate, lambda: self._updates())
        self._optimizer = dp_keras_optimizer(rule, self._clip, learning_rate=self._rate, **options)
        self._optimizer._create_all_weights(self._raw)
        self._rate.check()
        self._clipped_sum = make_backend(clipping, model, self._optimizer)
        guards.check_rows_by_trial(model)
        self._structure = guards.Structure.of(model)
        self._noise = SecretNoise(noise_key)
        self.void = _void(noise_multiplier, noise_key)
        self._skipped = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.SUM
        )
        self._strategy, self._process = tf.distribute.get_strategy(), os.getpid()

    @property
    def variables(self) -> list[tf.Variable]:
        """Counters and slots in a fixed order, for a checkpoint; keys are not among them."""
        return [*self._optimizer.variables(), self._before]

    @property
    def iterations(self) -> int:
        """Number of updates made, restored by a checkpoint; a ledger must cover it.

        Inside a `tf.function` a scalar int64 tensor.
        """
        return _number(self._updates())

    @property
    def skipped_rows(self) -> int:
        """Number of rows that added nothing because their gradient was not finite. Not private.

        Inside a `tf.function` a scalar int64 tensor.
        """
        return _number(tf.convert_to_tensor(self._skipped))

    def _updates(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._before) + tf.convert_to_tensor(self._optimizer.iterations)

    def restart(self) -> None:
        """Resets slots and bias correction, for a model with new weights; `iterations` stays."""
        self._before.assign_add(self._optimizer.iterations)
        for variable in self._optimizer.variables():
            variable.assign(tf.zeros_like(variable))

    @property
    def learning_rate(self) -> Any:
        """Step size of the next update, a float; inside a `tf.function` a scalar float32 tensor.

        An assigned number also takes effect in functions that were traced before.

        Raises:
            UsageError: the assigned number is not finite and >= 0, or the optimizer was made with
                a schedule.
        """
        return _number(self._rate())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rate.assign(value)

    def minimize(
        self,
        inputs: Any,
        per_example_loss: Callable[[Any], tf.Tensor] | None = None,
        mask: tf.Tensor | None = None,
        *,
        training: bool = True,
        **others: Any,
    ) -> tf.Tensor:
        """Makes one private update; may be called inside a `tf.function`.

        A batch of 0 rows, or a fully masked one, is an update of noise alone.

        Args:
            inputs: the model's inputs, `B` rows each.
            per_example_loss: the model's outputs -> `[B]` float32, row i from row i alone. Called
                once. Required.
            mask: `[B]` bool; rows where it is False add exactly nothing, whatever they contain.
            training: the mode the model runs in.
            others: arguments of other optimizers' `minimize`, which are refused.

        Returns:
            The losses `[B]` before the update, 0 where masked. A row whose gradient is not finite
            adds nothing to the update; its loss is returned as it is.

        Raises:
            UsageError: the losses are not one value per example; the model's layers or trainable
                weights changed since the optimizer was made (compared when a `tf.function` is
                traced); 0 rows without `expected_batch_size`; arguments of another optimizer's
                `minimize`; a call outside `strategy.run`. Nothing was updated.
            tf.errors.InvalidArgumentError: inside a `tf.function`, 0 rows without
                `expected_batch_size`, or a schedule's rate that is not finite and >= 0; with
                'per_example', or 'vectorized' for a model that draws random numbers, a gradient
                overflowed. No weight was moved.
        """
        self._check_call(inputs, per_example_loss, others)
        assert per_example_loss is not None
        self._structure.check(self._model)
        guards.check_model(self._model)
        self._check_place()
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if mask is not None:
            mask = tf.cast(mask, tf.bool)
            rows = tf.nest.flatten(inputs)[0].shape[:1]
            if mask.shape.rank != 1 or not mask.shape.is_compatible_with(rows):
                raise UsageError(
                    f"mask of shape {mask.shape} for a batch of {rows[0]}: expected [batch], one "
                    "value per row"
                )
            inputs = tf.nest.map_structure(lambda part: zero_rows(mask, part), inputs)
        clipped = clip_any_batch(
            self._clipped_sum,
            Request(self._model, self._raw, inputs, per_example_loss, mask, self._clip, training),
        )
        self._optimizer.apply_private(zip(self._gradient(clipped), self._raw, strict=True))
        return clipped.losses

    def _check_call(self, inputs: Any, per_example_loss: Any, others: dict[str, Any]) -> None:
        """Refuses the arguments of other optimizers with an error that names the right call."""
        wrong = None
        if others:
            wrong = f"has no argument {next(iter(others))}"
        elif callable(inputs) and not isinstance(inputs, (tf.Tensor, tf.Variable)):
            wrong = "takes the batch's inputs first, not a function"
        elif not callable(per_example_loss):
            wrong = f"takes a function second, not {type(per_example_loss).__name__}"
        if wrong:
            raise UsageError(
                f"{type(self).__name__}.minimize {wrong}: {_USE}, where per_example_loss maps the "
                "model's outputs to one loss per row, as in minimize(x, lambda outputs: "
                "loss(y, outputs)) with reduction='none'"
            )

    def _check_place(self) -> None:
        """Refuses processes and strategies in which replicas or copies would repeat the noise."""
        kind = type(self).__name__
        if os.getpid() != self._process:
            raise UsageError(
                f"{kind}: made in another process, whose noise this one would repeat; make the "
                "optimizer after the fork"
            )
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync == self._strategy.num_replicas_in_sync == 1:
            return
        if strategy is not self._strategy:
            raise UsageError(
                f"{kind}: made in another tf.distribute strategy than minimize is called in; make "
                "model and optimizer in strategy.scope() and call minimize in strategy.run"
            )
        if tf.distribute.in_cross_replica_context():
            raise UsageError(
                f"{kind}.minimize: called outside strategy.run; pass it a function that calls "
                "minimize"
            )

    def _gradient(self, clipped: Clipped) -> list[tf.Tensor]:
        """Returns the noised sum over all replicas, divided by the expected batch size."""
        # As a float, because integers are placed on the host, where strategies do not reduce.
        sums, size = clipped.sums, tf.cast(tf.size(clipped.losses), tf.float64)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            # Shards may differ in size: replicas must divide by the same number.
            *sums, size = context.all_reduce(tf.distribute.ReduceOp.SUM, [*sums, size])
        scale = 1.0 / self._divisor(tf.cast(size, tf.float32))
        self._skipped.assign_add(clipped.skipped)
        if not self._stddev:
            return [tf.cast(total, tf.float32) * scale for total in sums]
        # Replicas have the same key and counter, so they all add the same single draw.
        shapes = [variable.shape for variable in self._raw]
        noised = self._noise.add(sums, shapes, self._clip, self._stddev)
        return [total * scale for total in noised]

    def _divisor(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the expected batch size, or the number of rows, scalar float32."""
        if self._expected is not None:
            return tf.constant(self._expected, tf.float32)
        message = (
            f"{type(self).__name__}: a batch of 0 rows and no expected_batch_size to divide the "
            "noise by; no update was made; make the optimizer with expected_batch_size"
        )
        if tf.get_static_value(rows) == 0:
            raise UsageError(message)
        with tf.control_dependencies([tf.debugging.assert_positive(rows, message)]):
            return tf.identity(rows)

    def __repr__(self) -> str:
        # Keras and tf.train.Checkpoint print this in their errors.
        return (
            f"<{type(self).__name__} of model {self._model.name}, not a Keras optimizer: "
            f"{_USE}, and save optimizer.variables>"
        )

    def get_config(self) -> NoReturn:
        """Refuses the call: model and secret key cannot be part of a configuration.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{type(self).__name__}: has no configuration, because it belongs to a model and holds "
            f"a secret key; make a new one with {type(self).__name__}(model, ...) and restore its "
            "variables from a checkpoint"
        )

    @classmethod
    def from_config(cls, config: Any = None, **_: Any) -> NoReturn:
        """Refuses the call; see `get_config`.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{cls.__name__}.from_config: a private optimizer belongs to a model; make it with "
            f"{cls.__name__}(model, ...)"
        )

    def apply_gradients(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses the call: gradients from elsewhere are neither clipped nor noised.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{type(self).__name__}.apply_gradients: these gradients did not come through clipping "
            "and noise; call minimize(inputs, per_example_loss)"
        )

    apply = apply_gradients


class DPAdam(DPOptimizer):
    """Adam (Kingma and Ba 2015) on private gradients; see `DPOptimizer` for the rest."""

    def __init__(
        self,
        model: keras.Model,
        *,
        learning_rate: Any = 0.001,
        l2_norm_clip: float,
        noise_multiplier: float,
        expected_batch_size: float | None = None,
        clipping: str = "ghost",
        allow_zero_noise: bool = False,
        noise_key: int | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        guards.check_number("beta_1", beta_1, 0.0, _BELOW_ONE)
        guards.check_number("beta_2", beta_2, 0.0, _BELOW_ONE)
        guards.check_number("epsilon", epsilon, _MIN_EPSILON)
        super().__init__(
            model,
            l2_norm_clip=l2_norm_clip,
            noise_multiplier=noise_multiplier,
            expected_batch_size=expected_batch_size,
            clipping=clipping,
            allow_zero_noise=allow_zero_noise,
            noise_key=noise_key,
            rule="adam",
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
        )


class DPSGD(DPOptimizer):
    """Gradient descent, with optional momentum, on private gradients; see `DPOptimizer`."""

    def __init__(
        self,
        model: keras.Model,
        *,
        learning_rate: Any = 0.01,
        l2_norm_clip: float,
        noise_multiplier: float,
        expected_batch_size: float | None = None,
        clipping: str = "ghost",
        allow_zero_noise: bool = False,
        noise_key: int | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        guards.check_number("momentum", momentum, 0.0, 1.0)
        super().__init__(
            model,
            l2_norm_clip=l2_norm_clip,
            noise_multiplier=noise_multiplier,
            expected_batch_size=expected_batch_size,
            clipping=clipping,
            allow_zero_noise=allow_zero_noise,
            noise_key=noise_key,
            rule="sgd",
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
        )


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Step size for the legacy tf-keras optimizer, from a number, a schedule or a function.

    Args:
        value: a number >= 0; a `LearningRateSchedule` of Keras 3 or tf_keras, called with the
            number of updates made before this one; or a function without arguments.
        updates: returns the number of updates made, scalar int64.

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
            guards.check_number("learning_rate", value, 0.0)
            self._variable = tf.Variable(
                float(value),
                dtype=tf.float32,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def check(self) -> None:
        """Computes the first value, once `updates` can be called.

        Raises:
            UsageError: it is not a scalar, finite and >= 0.
        """
        try:
            self()
        except tf.errors.InvalidArgumentError as error:
            raise UsageError(" ".join(error.message.split())) from None

    def __call__(self, step: Any = None) -> tf.Tensor:
        """Returns the step size of the next update, scalar float32, finite and >= 0.

        Args:
            step: ignored, because tf-keras counts from 0 again after a restart.

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
        """Sets a new number >= 0.

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
            guards.check_number("learning_rate", value, 0.0)
        self._variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        """Returns nothing, because the rate belongs to one optimizer."""
        return {}


def _needs_arguments(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )


def _number(value: tf.Tensor) -> Any:
    """Returns a Python number if the value is known, else the tensor."""
    return value.numpy().item() if tf.executing_eagerly() else value


def _void(noise_multiplier: float, noise_key: int | None) -> str | None:
    reasons = []
    if noise_multiplier == 0:
        reasons.append("the noise multiplier is zero")
    if noise_key is not None:
        reasons.append("the noise comes from a fixed key")
    return "; ".join(reasons) or None
