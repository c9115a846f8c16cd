"""Checks that a model and its settings are compatible with DP-SGD.

`check_mechanism` and `check_model` look up properties that hold for any data. `check_rows_by_trial`
and `assert_rows_independent` run the model on a few rows and test numerically whether one row of a
batch can move another row's outputs or gradients.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.vectorized import draws_random_numbers

# Layers whose output for one row depends on the other rows of the batch.
_MIXING = (keras.layers.BatchNormalization,)
# The same, even if frozen: they combine two rows into one image.
_ALWAYS_MIXING = (keras.layers.MixUp, keras.layers.CutMix)
_WITH_AXIS = (
    keras.layers.LayerNormalization,
    keras.layers.UnitNormalization,
    keras.layers.Softmax,
)
# Squares of the clip norm and of the noise's standard deviation are formed in float32, whose
# range is 1e-38 to 3e38: outside these bounds the noise is rounded to zero or to infinity.
_MIN_SCALE, _MAX_SCALE = 1e-15, 1e18
_KEY_BITS = 128
TOLERANCE = 1e-6
_TRIAL_ROWS = 3
# Every other row is changed; the probability that a shuffle moves no changed row is 1/70.
_SHUFFLED_ROWS = 8


def check_mechanism(
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_batch_size: float | None,
    allow_zero_noise: bool,
    noise_key: int | None = None,
) -> None:
    """Refuses numbers that give no privacy.

    Args:
        l2_norm_clip: C, in [1e-15, 1e18].
        noise_multiplier: z >= 0; z C in [1e-15, 1e18], or 0.
        expected_batch_size: at least 1e-15, or None.
        allow_zero_noise: accepts `noise_multiplier=0`.
        noise_key: in [0, 2^128), or None.

    Raises:
        UsageError: a value outside its range or not a number; `noise_multiplier=0` without
            `allow_zero_noise`.
    """
    check_number("l2_norm_clip", l2_norm_clip)
    check_number("noise_multiplier", noise_multiplier)
    if not l2_norm_clip > 0:
        raise UsageError(f"l2_norm_clip={l2_norm_clip}: expected > 0 and finite")
    if not noise_multiplier >= 0:
        raise UsageError(f"noise_multiplier={noise_multiplier}: expected > 0 and finite")
    if noise_multiplier == 0 and not allow_zero_noise:
        raise UsageError(
            "noise_multiplier=0: expected > 0; zero noise is not private and needs "
            "allow_zero_noise=True"
        )
    if not _MIN_SCALE <= l2_norm_clip <= _MAX_SCALE:
        raise UsageError(
            f"l2_norm_clip={l2_norm_clip}: expected {_MIN_SCALE:g} to {_MAX_SCALE:g}, the range "
            "in which float32 holds squared norms"
        )
    stddev = float(l2_norm_clip) * float(noise_multiplier)
    if noise_multiplier and not _MIN_SCALE <= stddev <= _MAX_SCALE:
        raise UsageError(
            f"noise_multiplier={noise_multiplier}: times l2_norm_clip={l2_norm_clip} it is "
            f"{stddev:g}; expected {_MIN_SCALE:g} to {_MAX_SCALE:g}, the range in which float32 "
            "noise is neither zero nor infinite"
        )
    if expected_batch_size is not None:
        check_number("expected_batch_size", expected_batch_size, _MIN_SCALE)
    if noise_key is not None and not (
        isinstance(noise_key, numbers.Integral) and 0 <= noise_key < 2**_KEY_BITS
    ):
        raise UsageError(f"noise_key={noise_key!r}: expected an integer in [0, 2^{_KEY_BITS})")


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuses a hyperparameter that is not a finite number in [low, high].

    Args:
        name: the argument's name.
        value: an int, float or NumPy scalar.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        UsageError: not a number, not finite in float32, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageError(f"{name}={value!r}: expected a number")
    with np.errstate(over="ignore"):
        finite = bool(np.isfinite(np.float32(value)))
    if not (finite and low <= float(value) <= high):
        wanted = "finite"
        if low > -math.inf:
            wanted += f", at least {low:g}"
        if high < math.inf:
            wanted += f", at most {high:g}"
        raise UsageError(f"{name}={value}: expected {wanted}")


def check_model(model: keras.Model) -> None:
    """Refuses a model with gradients that clipping would not bound or would leave out.

    Raises:
        UsageError: not a Keras 3 model; nothing to train; a layer that mixes examples, computes in
            another dtype than float32, or adds a loss or a constraint that a private update would
            ignore.
    """
    _check_kind(model)
    if not model.trainable_variables:
        raise UsageError(f"model {model.name}: has no trainable weights (is it built?)")
    for layer in model._flatten_layers(include_self=False, recursive=True):
        _check_mixing(layer)
        _check_precision(layer)
        _check_extras(layer)
    for variable in model.trainable_variables:
        for extra in ("regularizer", "constraint"):
            if getattr(variable, extra, None) is not None:
                raise _ignored(f"weight {variable.path} has a {extra}")


class Structure(NamedTuple):
    """Layers and weights of a model, which must not change after its optimizer was made.

    Attributes:
        layers: each layer, in the model's order, and its `trainable` flag.
        weights: the trainable weights, in the model's order.
    """

    layers: list[tuple[Any, bool]]
    weights: list[Any]

    @classmethod
    def of(cls, model: keras.Model) -> Structure:
        """Reads the structure of a built model."""
        layers = model._flatten_layers(include_self=True, recursive=True)
        return cls(
            [(layer, bool(layer.trainable)) for layer in layers], list(model.trainable_variables)
        )

    def check(self, model: keras.Model) -> None:
        """Refuses a model that has changed since.

        Slots, clipping backend and checks belong to the weights and layers that an optimizer was
        made with. It would continue to train a weight that is frozen now, ignore one that was
        unfrozen, and let an unfrozen BatchNormalization collect statistics without noise.

        Raises:
            UsageError: a layer was added, removed or changed its `trainable` flag, or the
                trainable weights differ.
        """
        now = Structure.of(model)
        change = self._change(now)
        if change:
            raise UsageError(
                f"model {model.name}: {change} after the optimizer was made; make a new optimizer "
                "for it"
            )

    def _change(self, now: Structure) -> str | None:
        before = {id(layer): flag for layer, flag in self.layers}
        after = {id(layer) for layer, _ in now.layers}
        for layer, flag in now.layers:
            if id(layer) not in before:
                return f"layer {layer.name} was added"
            if flag != before[id(layer)]:
                return f"layer {layer.name} was {'unfrozen' if flag else 'frozen'}"
        for layer, _ in self.layers:
            if id(layer) not in after:
                return f"layer {layer.name} was removed"
        old, new = ({id(weight) for weight in each.weights} for each in (self, now))
        for weight in now.weights:
            if id(weight) not in old:
                return f"weight {weight.path} became trainable"
        for weight in self.weights:
            if id(weight) not in new:
                return f"weight {weight.path} is no longer trainable"
        if [id(w) for w in self.weights] != [id(w) for w in now.weights]:
            return "the order of its weights changed"
        return None


def _check_kind(model: Any) -> None:
    if isinstance(model, keras.Model):
        return
    if any(base.__module__.split(".")[0] == "tf_keras" for base in type(model).__mro__):
        raise UsageError(
            "model: this is a tf_keras (Keras 2) model; private training needs a Keras 3 model, "
            "built with `import keras`"
        )
    raise UsageError(
        f"model={model!r:.80}: expected a keras.Model; the first argument of DPAdam and DPSGD is "
        "the model they train, as in DPAdam(model, learning_rate=1e-3, l2_norm_clip=1.0, "
        "noise_multiplier=1.0)"
    )


def _ignored(problem: str) -> UsageError:
    return UsageError(
        f"{problem}, which a private update would ignore; leave it out, or add it to the "
        "per-example loss"
    )


def _check_mixing(layer: Any) -> None:
    axes = getattr(layer, "axis", -1) if isinstance(layer, _WITH_AXIS) else -1
    over_rows = 0 in (axes if isinstance(axes, (list, tuple)) else [axes])
    text = (
        f"layer {layer.name} ({type(layer).__name__}) mixes the examples of a batch, so no "
        "clipping bounds one example's influence; "
    )
    if isinstance(layer, _ALWAYS_MIXING):
        raise UsageError(f"{text}leave it out")
    if over_rows or (isinstance(layer, _MIXING) and layer.trainable):
        raise UsageError(f"{text}use GroupNormalization, or freeze it")


def _check_precision(layer: Any) -> None:
    if layer.compute_dtype != "float32" and layer.trainable_variables:
        raise UsageError(
            f"layer {layer.name} computes in {layer.compute_dtype}: per-example norms overflow or "
            "lose their accuracy there; use the float32 policy for the private model"
        )


def _check_extras(layer: Any) -> None:
    if not layer.trainable_variables:
        names = ["activity_regularizer"]
    else:
        names = [name for name in vars(layer) if name.endswith(("_regularizer", "_constraint"))]
        names.append("activity_regularizer")
    for name in names:
        if getattr(layer, name, None) is not None:
            raise _ignored(f"layer {layer.name} has a {name}")


def assert_rows_independent(
    model: keras.Model,
    inputs: Any,
    *,
    encoder: Callable[[Any], Any] | None = None,
    per_example_loss: Callable[[Any], tf.Tensor] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Changes, removes and pads rows, and compares the gradients of the remaining row.

    Args:
        model: the model that is trained with DP-SGD. It runs in training mode, or in inference
            mode if it draws random numbers.
        inputs: a few rows, nested as the model (or the encoder) takes them; at least two.
        encoder: a network in front of the model, in the mode in which it feeds the private
            update: `lambda x: encoder(x, training=False)`.
        per_example_loss: outputs -> `[B]`; a fixed random direction by default. It must take any
            number of rows.
        tolerance: largest allowed difference, relative to the row's largest gradient if that is
            above 1.

    Raises:
        UsageError: a row's gradient depends on other rows.
    """
    rows = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    count = int(tf.nest.flatten(rows)[0].shape[0])
    if count < 2:
        raise UsageError(f"assert_rows_independent: {count} rows: expected at least 2")
    training = not draws_random_numbers(model)

    def gradient(batch: Any, row: int) -> np.ndarray:
        features = batch if encoder is None else encoder(batch)
        with tf.GradientTape() as tape:
            outputs = model(features, training=training)
            value = tf.reduce_sum((per_example_loss or _direction)(outputs)[row])
        raw = [variable.value for variable in model.trainable_variables]
        gradients = tape.gradient(value, raw, unconnected_gradients="zero")
        return np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in gradients])

    alone = gradient(rows, 0)
    for change, batch in _variants(rows):
        _compare(model, change, alone, gradient(batch, 0), tolerance)


def check_rows_by_trial(model: keras.Model) -> None:
    """Runs a built model on random rows and compares outputs; a cheap check before training.

    Finds operations over the batch that no list of layers names, and layers that collect
    statistics of the data, which get no noise. Models with inputs of unknown size or another dtype
    than float32 are not tried.

    Raises:
        UsageError: a row's outputs, or a layer's state, depend on other rows; a layer calls
            `add_loss`.
    """
    specs = getattr(model, "inputs", None)
    if not specs or any(None in s.shape[1:] or s.dtype != "float32" for s in specs):
        return
    generator = np.random.default_rng(0)

    def drawn(count: int) -> list[tf.Tensor]:
        return [
            tf.constant(generator.normal(size=(count, *s.shape[1:])), tf.float32) for s in specs
        ]

    rows, many = drawn(_TRIAL_ROWS), drawn(_SHUFFLED_ROWS)
    training = not draws_random_numbers(model)
    # A sequential model has no such structure; it takes one tensor.
    structure = getattr(model, "_inputs_struct", specs[0])

    state = [(variable, np.array(variable)) for variable in model.variables]

    def outputs(batch: list[tf.Tensor], mode: bool, step: int = _TRIAL_ROWS + 1) -> np.ndarray:
        """Returns outputs of every `step`-th row and the new state; restores the old state."""
        inputs = keras.tree.pack_sequence_as(structure, batch)
        results = tf.nest.flatten(model(inputs, training=mode))
        seen = [np.asarray(part[::step]).ravel() for part in results]
        for variable, value in state:
            if value.dtype.kind == "f":
                seen.append(np.array(variable).ravel())
            variable.assign(value)
        return np.concatenate(seen)

    alone = outputs(rows, training)
    if model.losses:
        raise _ignored(f"model {model.name}: a layer calls add_loss")
    for change, batch in _variants(rows):
        _compare(model, change, alone, outputs(batch, training), TOLERANCE)
    # Random numbers start from the same state in each pass and depend on the batch size, so all
    # batches here have one size; if they do not repeat, nothing can be compared.
    before = outputs(many, True, 2)
    if np.array_equal(before, outputs(many, True, 2)):
        changed = [tf.where(_odd(part), part * 2, part) for part in many]
        _compare(model, "changing other rows", before, outputs(changed, True, 2), TOLERANCE)


def _odd(part: tf.Tensor) -> tf.Tensor:
    """Returns True for every other row, in a shape that broadcasts with `part`."""
    odd = tf.range(tf.shape(part)[0]) % 2 == 1
    return tf.reshape(odd, [-1] + [1] * (part.shape.rank - 1))


def _variants(rows: Any) -> Iterator[tuple[str, Any]]:
    """Yields batches with the same first row and other rows, and the change made."""

    def each(change: Callable[[tf.Tensor], tf.Tensor]) -> Any:
        return tf.nest.map_structure(change, rows)

    yield "changing another row", each(lambda x: tf.concat([x[:1], x[:1] * 2, x[2:]], 0))
    yield "removing another row", each(lambda x: tf.concat([x[:1], x[2:]], 0))
    yield "padding", each(lambda x: tf.concat([x, tf.zeros_like(x[:1])], 0))


def _direction(outputs: Any) -> tf.Tensor:
    """Returns a fixed random projection of each row's outputs, `[B]`."""
    generator = np.random.default_rng(0)
    total = tf.constant(0.0)
    for part in tf.nest.flatten(outputs):
        flat = tf.reshape(part, [tf.shape(part)[0], -1])
        total += tf.linalg.matvec(flat, generator.normal(size=flat.shape[1]).astype(np.float32))
    return total


def _compare(
    model: keras.Model, change: str, one: np.ndarray, other: np.ndarray, tolerance: float
) -> None:
    gap, size = float(np.abs(one - other).max()), max(1.0, float(np.abs(one).max()))
    if not gap <= tolerance * size:
        raise UsageError(
            f"model {model.name}: {change} alters the first row's result by {gap:.2g}: the "
            "examples of a batch influence each other, so clipping bounds nothing; use "
            "GroupNormalization, and BatchNormalization only in inference mode"
        )
