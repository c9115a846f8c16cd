"""Adam and SGD with per-example clipping and Gaussian noise, for Keras 3 models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import guards
from tf_mtl_privacy.privacy.clipping.backends import make_backend
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, zero_rows
from tf_mtl_privacy.privacy.independence import check_rows_by_trial
from tf_mtl_privacy.privacy.noise import SecretNoise
from tf_mtl_privacy.privacy.tfp import dp_keras_optimizer


class DPOptimizer:
    """DP-SGD (Abadi et al. 2016, algorithm 1) on a Keras 3 model; use `DPAdam` or `DPSGD`.

    Update rule and slots are those of tensorflow-privacy's DPKeras optimizer. `minimize` is the
    only way to move a weight: it computes the private gradient itself, adds
    `Normal(0, (noise_multiplier * l2_norm_clip)^2)` to the clipped sum, and divides by the
    expected batch size.

    Args:
        model: a built Keras 3 model; its trainable variables are trained.
        l2_norm_clip: bound on each example's gradient norm over all variables together, > 0.
        noise_multiplier: noise standard deviation over `l2_norm_clip`, > 0.
        expected_batch_size: what the noised sum is divided by: under Poisson sampling the mean
            number of rows. By default the number of rows of the batch, masked ones too.
        clipping: 'ghost', 'vectorized' or 'per_example'; the same update at different cost.
        allow_zero_noise: accept `noise_multiplier=0`, which is not private.
        noise_key: for tests: makes the noise repeatable, which is not private either.
        rule: 'adam' or 'sgd'.
        options: for the legacy tf-keras optimizer of that name.

    Attributes:
        void: why the updates are not private, or None.
        skipped_rows: scalar int64 variable: rows that added nothing because their gradient was
            not finite. Not a private figure.

    Raises:
        UsageError: a value or a model that would make the guarantee untrue; see `guards`.
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
        **options: Any,
    ) -> None:
        guards.check_mechanism(
            l2_norm_clip, noise_multiplier, expected_batch_size, allow_zero_noise
        )
        guards.check_model(model)
        self._model, self._clip = model, float(l2_norm_clip)
        self._stddev = float(noise_multiplier) * self._clip
        self._expected = expected_batch_size
        # The legacy optimizer keeps its slots by tf.Variable, not by Keras 3 variable.
        self._raw = [variable.value for variable in model.trainable_variables]
        self._optimizer = dp_keras_optimizer(rule, self._clip, **options)
        self._optimizer._create_all_weights(self._raw)
        self._before = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._clipped_sum = make_backend(clipping, model, self._optimizer)
        check_rows_by_trial(model)
        self._noise = SecretNoise(noise_key)
        self.void = _void(noise_multiplier, noise_key)
        self.skipped_rows = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.SUM
        )

    @property
    def variables(self) -> list[tf.Variable]:
        """Counters and slots in a fixed order: what a checkpoint must hold. No key is in it."""
        return [*self._optimizer.variables(), self._before]

    @property
    def iterations(self) -> int:
        """Updates made, as a checkpoint restores them: what a ledger has to cover."""
        return int(self._before) + int(self._optimizer.iterations)

    def restart(self) -> None:
        """Forgets slots and bias correction, for a model with new weights; `iterations` stays."""
        self._before.assign_add(self._optimizer.iterations)
        for variable in self._optimizer.variables():
            variable.assign(tf.zeros_like(variable))

    @property
    def learning_rate(self) -> Any:
        """The step size; may be assigned."""
        return self._optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.learning_rate = value

    def minimize(
        self,
        inputs: Any,
        per_example_loss: Callable[[Any], tf.Tensor],
        mask: tf.Tensor | None = None,
        *,
        training: bool = True,
    ) -> tf.Tensor:
        """One private update; may be called inside a `tf.function`.

        Args:
            inputs: the model's inputs, `B` rows each.
            per_example_loss: the model's outputs -> `[B]` float32, row i from row i alone. Called
                once.
            mask: `[B]` bool; rows where it is False add exactly nothing, whatever they hold.
            training: which mode the model runs in.

        Returns:
            The losses `[B]` from before the update, 0 where masked. A row whose gradient is not
            finite adds nothing to the update; its loss is returned as it is.

        Raises:
            UsageError: the losses are not one value per example.
            tf.errors.InvalidArgumentError: with 'per_example', or 'vectorized' for a model that
                draws random numbers, a gradient overflowed; nothing was updated.
        """
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if mask is not None:
            mask = tf.cast(mask, tf.bool)
            inputs = tf.nest.map_structure(lambda part: zero_rows(mask, part), inputs)
        clipped = self._clipped_sum(
            Request(self._model, self._raw, inputs, per_example_loss, mask, self._clip, training)
        )
        self._optimizer.apply_private(zip(self._gradient(clipped), self._raw, strict=True))
        return clipped.losses

    def _gradient(self, clipped: Clipped) -> list[tf.Tensor]:
        """The noised sum, over all replicas, divided by the expected batch size."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        sums = clipped.sums
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        self.skipped_rows.assign_add(clipped.skipped)
        size = self._expected or replicas * tf.shape(clipped.losses)[0]
        scale = 1.0 / tf.cast(size, tf.float32)
        if not self._stddev:
            return [total * scale for total in sums]
        # Replicas have the same key and counter, so that they all add the one same draw.
        shapes = [variable.shape for variable in self._raw]
        noised = self._noise.add(sums, shapes, self._clip, self._stddev)
        return [total * scale for total in noised]

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
        learning_rate: float = 0.001,
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
        learning_rate: float = 0.01,
        l2_norm_clip: float,
        noise_multiplier: float,
        expected_batch_size: float | None = None,
        clipping: str = "ghost",
        allow_zero_noise: bool = False,
        noise_key: int | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
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


def _void(noise_multiplier: float, noise_key: int | None) -> str | None:
    reasons = []
    if noise_multiplier == 0:
        reasons.append("the noise multiplier is zero")
    if noise_key is not None:
        reasons.append("the noise comes from a fixed key")
    return "; ".join(reasons) or None
