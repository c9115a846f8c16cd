"""Ghost clipping of LayerNormalization and GroupNormalization: their scale and offset.

Each row gets its own copy of gamma and beta; the gradients of the copies are the per-example
gradients. They are by-products of the backward pass, so nothing else is kept for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.contribution import Contribution, instantiated
from tf_mtl_privacy.privacy.clipping.request import by_chunks

Gradients = list[tf.Tensor]


def check_layer(layer: Any) -> None:
    """Refuses a LayerNormalization whose statistics mix examples, or of the deprecated kind."""
    if 0 in layer.axis:
        raise UsageError(
            f"layer {layer.name} (LayerNormalization): axis={layer.axis} mixes examples, so no "
            "clipping bounds one of them; leave axis 0 out"
        )
    if layer.rms_scaling:
        raise UsageError(
            f"layer {layer.name} (LayerNormalization): rms_scaling is not known to ghost "
            "clipping; use clipping='vectorized'"
        )


def layer_forward(layer: Any, x: tf.Tensor, copies: list[tf.Tensor]) -> tf.Tensor:
    """`[B, ...]` and `row_copies` -> normalised, scaled and shifted; Ba et al. 2016."""
    axes = _positive(layer.axis, x.shape.rank)
    shape = [x.shape[i] if i in axes else 1 for i in range(1, x.shape.rank)]
    return _normalized(layer, x, copies, _Axes(axes, [], shape))


def group_forward(layer: Any, x: tf.Tensor, copies: list[tf.Tensor]) -> tf.Tensor:
    """`[B, ...]` and `row_copies` -> normalised, scaled and shifted; Wu and He 2018."""
    (axis,) = _positive([layer.axis], x.shape.rank)
    sizes = [-1, *x.shape[1:]]
    split = [*sizes[:axis], layer.groups, sizes[axis] // layer.groups, *sizes[axis + 1 :]]
    shared = [i for i in range(1, len(split)) if i not in (axis, axis + 1)]
    shape = [1 if i in shared else split[i] for i in range(1, len(split))]
    axes = _Axes([*shared, axis + 1], shared, shape)
    z = _normalized(layer, tf.reshape(x, split), copies, axes)
    return tf.reshape(z, sizes)


def row_copies(layer: Any, x: tf.Tensor) -> list[tf.Tensor]:
    """Gamma and beta, those that there are, once for each of the `B` rows: `[B, *shape]` each."""
    found = []
    for variable in _variables(layer):
        value = tf.convert_to_tensor(variable.value)[tf.newaxis]
        found.append(tf.repeat(value, tf.shape(x)[0], axis=0))
    return found


def contributions(layer: Any, _: None, gradients: list[tf.Tensor]) -> list[Contribution]:
    """Of gamma and beta, from the gradients of their `row_copies`; nothing else is kept."""
    return [
        instantiated(variable, gradient)
        for variable, gradient in zip(_variables(layer), gradients, strict=True)
    ]


class _Axes(NamedTuple):
    """How the axes of x take part.

    Attributes:
        inside: one mean and variance are over these.
        shared: those of them over which gamma does not change either.
        shape: of gamma beside x, without `B`.
    """

    inside: list[int]
    shared: list[int]
    shape: list[int]


def _normalized(layer: Any, x: tf.Tensor, copies: list[tf.Tensor], axes: _Axes) -> tf.Tensor:
    """Normalised with a closed-form gradient, which keeps x and small tensors only.

    Autodiff keeps and makes several tensors of the size of x.
    """

    @tf.custom_gradient
    def run(x: tf.Tensor, *copies: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        weights = [tf.reshape(copy, [-1, *axes.shape]) for copy in copies]
        gammas = weights[0] if layer.gamma is not None else None
        mean, inverse = _statistics(x, axes, layer.epsilon)
        factor = inverse if gammas is None else inverse * gammas
        shift = -mean * factor
        if layer.beta is not None:
            shift += weights[-1]

        def gradients(delta: tf.Tensor) -> Gradients:
            to_x, to_gammas, to_betas = _gradients(x, delta, mean, inverse, gammas, axes)
            found = [to_gammas] if layer.gamma is not None else []
            found += [to_betas] if layer.beta is not None else []
            return [to_x, *map(tf.reshape, found, map(tf.shape, copies))]

        return x * factor + shift, gradients

    return run(x, *copies)


def _statistics(x: tf.Tensor, axes: _Axes, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and `1 / sqrt(variance + epsilon)`, to be used beside x."""
    mean = _average(x, axes)
    return mean, tf.math.rsqrt(_average(tf.math.squared_difference(x, mean), axes) + epsilon)


def _average(x: tf.Tensor, axes: _Axes) -> tf.Tensor:
    """Over `axes.inside`, which stay: with size 1, or, in groups, one equal value per channel.

    In groups: positions first and one value per channel take half the time of the plain way.
    """
    if not axes.shared:
        return tf.reduce_mean(x, axes.inside, keepdims=True)
    per_channel = tf.reduce_mean(x, axes.shared, keepdims=True)
    return tf.broadcast_to(
        tf.reduce_mean(per_channel, axes.inside, keepdims=True), tf.shape(per_channel)
    )


def _gradients(
    x: tf.Tensor,
    delta: tf.Tensor,
    mean: tf.Tensor,
    inverse: tf.Tensor,
    gammas: tf.Tensor | None,
    axes: _Axes,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """With respect to x, and to each row's gamma and beta.

    For n = (x - mean) inverse and g = gamma delta, the first is
    `inverse (g - average(g) - n average(g n))`, averages over `axes.inside`.
    """
    plain, product = _sums(x, mean, delta, axes.shared)
    scaled = product * inverse
    size = math.prod(x.shape[i] for i in axes.inside)
    first, second = (
        tf.reduce_sum(part if gammas is None else part * gammas, axes.inside, keepdims=True) / size
        for part in (plain, scaled)
    )
    slope = -second * inverse * inverse
    offset = -first * inverse - mean * slope
    factor = inverse if gammas is None else inverse * gammas
    over = [i for i, size in enumerate(axes.shape, start=1) if size == 1]
    return (
        delta * factor + (x * slope + offset),
        tf.reduce_sum(scaled, over, keepdims=True),
        tf.reduce_sum(plain, over, keepdims=True),
    )


def _sums(
    x: tf.Tensor, mean: tf.Tensor, delta: tf.Tensor, axes: list[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of delta, and of delta times x - mean: to take off the mean's part later loses digits."""
    if not axes:
        return delta, (x - mean) * delta

    def both(rows: tf.Tensor, means: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        parts = (deltas, (rows - means) * deltas)
        return tf.stack([tf.reduce_sum(part, axes, keepdims=True) for part in parts], 1)

    shape = (2, *(1 if i in axes else x.shape[i] for i in range(1, x.shape.rank)))
    found = by_chunks(both, [x, mean, delta], 2 * x.shape[1:].num_elements(), shape)
    return found[:, 0], found[:, 1]


def _variables(layer: Any) -> list[Any]:
    return [variable for variable in (layer.gamma, layer.beta) if variable is not None]


def _positive(axes: Any, rank: int) -> list[int]:
    return sorted(axis % rank for axis in axes)
