"""Tries by numbers whether one row of a batch can move another row's outputs or gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.vectorized import draws_random_numbers
from tf_mtl_privacy.privacy.guards import check_losses

TOLERANCE = 1e-6
_TRIAL_ROWS = 3
# Every other one of these is changed; the chance that shuffled rows meet no changed one is 1/70.
_SHUFFLED_ROWS = 8


def assert_rows_independent(
    model: keras.Model,
    inputs: Any,
    *,
    encoder: Callable[[Any], Any] | None = None,
    per_example_loss: Callable[[Any], tf.Tensor] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Changes, removes and pads rows, and compares the gradients of the rows that stay.

    Args:
        model: the model that is trained with DP-SGD. It runs in training mode, or in inference
            mode where it draws random numbers.
        inputs: a few rows, nested as the model (or the encoder) takes them; at least two.
        encoder: what stands between `inputs` and the model, in the mode in which it feeds the
            private update: `lambda x: encoder(x, training=False)`.
        per_example_loss: outputs -> `[B]`; a fixed random direction by default. It must take any
            number of rows.
        tolerance: greatest difference, relative to the row's greatest gradient where that is
            above 1.

    Raises:
        UsageError: a row's gradient depends on the rows beside it.
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
    for what, batch in _variants(rows):
        _compare(model, what, alone, gradient(batch, 0), tolerance)


def check_rows_by_trial(model: keras.Model) -> None:
    """Tries a built model with random rows and compares outputs; a cheap check before training.

    It finds operations over the batch that no list of layers names, and statistics of the data
    that a layer keeps, to which no noise is added. Models whose inputs have
    unknown sizes or are not float32 are not tried.

    Raises:
        UsageError: a row's outputs, or what a layer keeps, depend on the rows beside it; a layer
            calls `add_loss`.
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
    # A sequential model, which has no such structure, takes one tensor.
    structure = getattr(model, "_inputs_struct", specs[0])

    state = [(variable, np.array(variable)) for variable in model.variables]

    def outputs(batch: list[tf.Tensor], mode: bool, step: int = _TRIAL_ROWS + 1) -> np.ndarray:
        """Of every `step`-th row, and the weights that a pass changes without gradients."""
        inputs = keras.tree.pack_sequence_as(structure, batch)
        found = tf.nest.flatten(model(inputs, training=mode))
        seen = [np.asarray(part[::step]).ravel() for part in found]
        for variable, value in state:
            if value.dtype.kind == "f":
                seen.append(np.array(variable).ravel())
            variable.assign(value)
        return np.concatenate(seen)

    alone = outputs(rows, training)
    check_losses(model)
    for what, batch in _variants(rows):
        _compare(model, what, alone, outputs(batch, training), TOLERANCE)
    # Random numbers start from the same state in each pass. They are for a batch of that size, so
    # that all batches here have one size; where they do not repeat, nothing can be compared.
    before = outputs(many, True, 2)
    if np.array_equal(before, outputs(many, True, 2)):
        changed = [tf.where(_odd(part), part * 2, part) for part in many]
        _compare(model, "changing other rows", before, outputs(changed, True, 2), TOLERANCE)


def _odd(part: tf.Tensor) -> tf.Tensor:
    """True for every other row, to be broadcast beside `part`."""
    odd = tf.range(tf.shape(part)[0]) % 2 == 1
    return tf.reshape(odd, [-1] + [1] * (part.shape.rank - 1))


def _variants(rows: Any) -> Iterator[tuple[str, Any]]:
    """The same first row in other company."""

    def each(change: Callable[[tf.Tensor], tf.Tensor]) -> Any:
        return tf.nest.map_structure(change, rows)

    yield "changing another row", each(lambda x: tf.concat([x[:1], x[:1] * 2, x[2:]], 0))
    yield "removing another row", each(lambda x: tf.concat([x[:1], x[2:]], 0))
    yield "padding", each(lambda x: tf.concat([x, tf.zeros_like(x[:1])], 0))


def _direction(outputs: Any) -> tf.Tensor:
    """A fixed random projection of each row's outputs, `[B]`."""
    generator = np.random.default_rng(0)
    total = tf.constant(0.0)
    for part in tf.nest.flatten(outputs):
        flat = tf.reshape(part, [tf.shape(part)[0], -1])
        total += tf.linalg.matvec(flat, generator.normal(size=flat.shape[1]).astype(np.float32))
    return total


def _compare(
    model: keras.Model, what: str, one: np.ndarray, other: np.ndarray, tolerance: float
) -> None:
    gap, size = float(np.abs(one - other).max()), max(1.0, float(np.abs(one).max()))
    if not gap <= tolerance * size:
        raise UsageError(
            f"model {model.name}: {what} moves a row by {gap:.2g}: the examples of a batch touch "
            "each other, so no clipping bounds one example's influence; use GroupNormalization, "
            "and BatchNormalization only in inference mode"
        )
