"""Adam and SGD with per-example clipping and Gaussian noise, for Keras 3 models."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import guards
from tf_mtl_privacy.privacy.clipping.backends import make_backend
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, clip_any_batch, zero_rows
from tf_mtl_privacy.privacy.guards import check_rows_by_trial
from tf_mtl_privacy.privacy.keys import NotCopied
from tf_mtl_privacy.privacy.learning_rate import LearningRate
from tf_mtl_privacy.privacy.noise import SecretNoise
from tf_mtl_privacy.privacy.tfp import dp_keras_optimizer

# The greatest float32 below 1: a decay of 1 never takes a gradient in.
_BELOW_ONE = 1.0 - 2.0**-24
# Adam divides by the root of the second moment plus epsilon, and the moment may be zero.
_MIN_EPSILON = 1e-30
_USE = "call minimize(inputs, per_example_loss) for each batch"


class DPOptimizer(NotCopied):
    """DP-SGD (Abadi et al. 2016, algorithm 1) on a Keras 3 model; use `DPAdam` or `DPSGD`.

    Update rule and slots are those of tensorflow-privacy's DPKeras optimizer. `minimize` is the
    only way to move a weight: it computes the private gradient itself, adds
    `Normal(0, (noise_multiplier * l2_norm_clip)^2)` to the clipped sum, and divides by the
    expected batch size. It belongs to the model as it was when the optimizer was made: freeze,
    unfreeze or add layers first. Under a `tf.distribute` strategy, make model and optimizer in
    `strategy.scope()` and call `minimize` in `strategy.run`.

    An optimizer is neither copied nor pickled, because its copy would draw the same noise; a
    checkpoint holds its `variables`.

    Args:
        model: a built Keras 3 model; its trainable variables are trained.
        l2_norm_clip: bound on each example's gradient norm over all variables together, > 0.
        noise_multiplier: noise standard deviation over `l2_norm_clip`, > 0.
        expected_batch_size: divisor of the noised sum, > 0: under Poisson sampling the mean
            number of rows. By default the number of rows of the batch over all replicas, masked
            ones too; a batch without rows is then refused.
        clipping: 'ghost', 'vectorized' or 'per_example'; the same update at different cost.
        allow_zero_noise: accept `noise_multiplier=0`, which is not private.
        noise_key: for tests: makes the noise repeatable, which is not private either.
        rule: 'adam' or 'sgd'.
        learning_rate: a number >= 0, a Keras 3 or tf_keras `LearningRateSchedule`, called with
            `iterations`, or a function without arguments.
        options: for the legacy tf-keras optimizer of that name.

    Attributes:
        void: why the updates are not private, or None.

    Raises:
        UsageError: a value or a model that would make the guarantee untrue; see `guards`.
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
        check_rows_by_trial(model)
        self._structure = guards.Structure.of(model)
        self._noise = SecretNoise(noise_key)
        self.void = _void(noise_multiplier, noise_key)
        self._skipped = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.SUM
        )
        self._strategy, self._process = tf.distribute.get_strategy(), os.getpid()

    @property
    def variables(self) -> list[tf.Variable]:
        """Counters and slots in a fixed order: what a checkpoint must hold. No key is in it."""
        return [*self._optimizer.variables(), self._before]

    @property
    def iterations(self) -> int:
        """Updates made, as a checkpoint restores them: the number that a ledger must cover.

        Inside a `tf.function` a scalar int64 tensor.
        """
        return _number(self._updates())

    @property
    def skipped_rows(self) -> int:
        """Rows that added nothing because their gradient was not finite. Not a private figure.

        Inside a `tf.function` a scalar int64 tensor.
        """
        return _number(tf.convert_to_tensor(self._skipped))

    def _updates(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._before) + tf.convert_to_tensor(self._optimizer.iterations)

    def restart(self) -> None:
        """Forgets slots and bias correction, for a model with new weights; `iterations` stays."""
        self._before.assign_add(self._optimizer.iterations)
        for variable in self._optimizer.variables():
            variable.assign(tf.zeros_like(variable))

    @property
    def learning_rate(self) -> Any:
        """The next update's step size, a float; inside a `tf.function` a scalar float32 tensor.

        A number that is assigned holds in functions that were traced before.

        Raises:
            UsageError: the number assigned is not finite and >= 0, or the optimizer was made with
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
        """One private update; may be called inside a `tf.function`.

        A batch of 0 rows, or one that is masked altogether, is an update of noise alone.

        Args:
            inputs: the model's inputs, `B` rows each.
            per_example_loss: the model's outputs -> `[B]` float32, row i from row i alone. Called
                once. It must be given.
            mask: `[B]` bool; rows where it is False add exactly nothing, whatever they hold.
            training: which mode the model runs in.
            others: refused; arguments of other optimizers' `minimize`.

        Returns:
            The losses `[B]` from before the update, 0 where masked. A row whose gradient is not
            finite adds nothing to the update; its loss is returned as it is.

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
        """Names the right call where the arguments are those of another optimizer."""
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
        """Refuses a process or a strategy in which replicas or copies would repeat the noise."""
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
        """The noised sum, over all replicas, divided by the expected batch size."""
        # As a float, because integers lie on the host, where strategies do not reduce.
        sums, size = clipped.sums, tf.cast(tf.size(clipped.losses), tf.float64)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            # Shards may differ in size: replicas must divide by the same number.
            *sums, size = context.all_reduce(tf.distribute.ReduceOp.SUM, [*sums, size])
        scale = 1.0 / self._divisor(tf.cast(size, tf.float32))
        self._skipped.assign_add(clipped.skipped)
        if not self._stddev:
            return [tf.cast(total, tf.float32) * scale for total in sums]
        # Replicas have the same key and counter, so that they all add the one same draw.
        shapes = [variable.shape for variable in self._raw]
        noised = self._noise.add(sums, shapes, self._clip, self._stddev)
        return [total * scale for total in noised]

    def _divisor(self, rows: tf.Tensor) -> tf.Tensor:
        """The expected batch size, or the number of rows, scalar float32."""
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
        # Keras and tf.train.Checkpoint print it where they are handed one.
        return (
            f"<{type(self).__name__} of model {self._model.name}, which is no Keras optimizer: "
            f"{_USE}, and save optimizer.variables>"
        )

    def get_config(self) -> NoReturn:
        """Refused: the model and the secret key are no configuration.

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
        """Refused; see `get_config`.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{cls.__name__}.from_config: a private optimizer belongs to a model; make it with "
            f"{cls.__name__}(model, ...)"
        )

    def apply_gradients(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: gradients from elsewhere are neither clipped nor noised.

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
    """Gradient descent, with momentum if asked, on private gradients; see `DPOptimizer`."""

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


def _number(value: tf.Tensor) -> Any:
    """A Python number where the value is known, else the tensor."""
    return value.numpy().item() if tf.executing_eagerly() else value


def _void(noise_multiplier: float, noise_key: int | None) -> str | None:
    reasons = []
    if noise_multiplier == 0:
        reasons.append("the noise multiplier is zero")
    if noise_key is not None:
        reasons.append("the noise comes from a fixed key")
    return "; ".join(reasons) or None
