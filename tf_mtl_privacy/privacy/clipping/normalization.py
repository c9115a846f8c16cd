"""Layer rules of LayerNormalization and GroupNormalization.

Each row gets its own copy of gamma and beta. The gradients of the copies are the per-example
gradients, by-products of the backward pass, so nothing else is saved for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.contribution import Contribution, by_chunks, instantiated
from tf_mtl_privacy.privacy.clipping.rules import Pass, Watch, refusal, register_layer_rule

_VARIABLES = ("gamma", "beta")
Tensors = list[tf.Tensor]


def _forward(normalize: Callable[[Any, tf.Tensor, Tensors], tf.Tensor]) -> Callable[..., Pass]:
    """Watches a copy of the weights for each row and normalises with these."""

    def forward(layer: Any, x: tf.Tensor, watch: Watch) -> Pass:
        copies = row_copies(layer, x)
        watch(copies)
        return Pass(None, copies, normalize(layer, x, copies))

    return forward


def row_copies(layer: Any, x: tf.Tensor) -> Tensors:
    """Returns gamma and beta, where present, repeated for each of the `B` rows."""
    values = (tf.convert_to_tensor(variable.value) for variable in _weights(layer))
    return [tf.repeat(value[tf.newaxis], tf.shape(x)[0], axis=0) for value in values]


def layer_forward(layer: Any, x: tf.Tensor, copies: Tensors) -> tf.Tensor:
    """Normalises, scales and shifts `[B, ...]` with `row_copies`; Ba et al. 2016."""
    axes = _positive(layer.axis, x.shape.rank)
    shape = [x.shape[i] if i in axes else 1 for i in range(1, x.shape.rank)]
    return _normalized(layer, x, copies, _Axes(axes, [], shape))


def group_forward(layer: Any, x: tf.Tensor, copies: Tensors) -> tf.Tensor:
    """Normalises, scales and shifts `[B, ...]` with `row_copies`; Wu and He 2018."""
    (axis,) = _positive([layer.axis], x.shape.rank)
    sizes = [-1, *x.shape[1:]]
    split = [*sizes[:axis], layer.groups, sizes[axis] // layer.groups, *sizes[axis + 1 :]]
    shared = [i for i in range(1, len(split)) if i not in (axis, axis + 1)]
    shape = [1 if i in shared else split[i] for i in range(1, len(split))]
    axes = _Axes([*shared, axis + 1], shared, shape)
    z = _normalized(layer, tf.reshape(x, split), copies, axes)
    return tf.reshape(z, sizes)


def _check_layer_normalization(layer: Any) -> None:
    if 0 in layer.axis:
        raise UsageError(
            f"layer {layer.name} (LayerNormalization): axis={layer.axis} mixes examples, so no "
            "clipping bounds one of them; leave axis 0 out"
        )
    if layer.rms_scaling:
        raise refusal(layer, "does not support rms_scaling")


@register_layer_rule(
    keras.layers.GroupNormalization, forward=_forward(group_forward), variables=_VARIABLES
)
@register_layer_rule(
    keras.layers.LayerNormalization,
    forward=_forward(layer_forward),
    check=_check_layer_normalization,
    variables=_VARIABLES,
)
def normalization_gradients(layer: Any, _: None, gradients: Tensors) -> list[Contribution]:
    """Returns gradients of gamma and beta: those of their `row_copies`."""
    return [
        instantiated(variable, gradient)
        for variable, gradient in zip(_weights(layer), gradients, strict=True)
    ]


def _weights(layer: Any) -> list[Any]:
    return [variable for variable in (layer.gamma, layer.beta) if variable is not None]


def _positive(axes: Any, rank: int) -> list[int]:
    return sorted(axis % rank for axis in axes)


class _Axes(NamedTuple):
    """Axes of x in a normalisation.

    Attributes:
        inside: axes of one mean and variance.
        shared: those of them over which gamma is constant, too.
        shape: of gamma, to broadcast with x, without `B`.
    """

    inside: list[int]
    shared: list[int]
    shape: list[int]


def _normalized(layer: Any, x: tf.Tensor, copies: Tensors, axes: _Axes) -> tf.Tensor:
    """Normalises with a closed-form gradient, which keeps x and small tensors only.

    Automatic differentiation would keep several tensors of the size of x.
    """

    @tf.custom_gradient
    def run(x: tf.Tensor, *copies: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Tensors]]:
        weights = [tf.reshape(copy, [-1, *axes.shape]) for copy in copies]
        gammas = weights[0] if layer.gamma is not None else None
        mean, inverse = _statistics(x, axes, layer.epsilon)
        factor = inverse if gammas is None else inverse * gammas
        shift = -mean * factor
        if layer.beta is not None:
            shift += weights[-1]

        def gradients(delta: tf.Tensor) -> Tensors:
            to_x, to_gammas, to_betas = _gradients(x, delta, mean, inverse, gammas, axes)
            to_copies = [to_gammas] if layer.gamma is not None else []
            to_copies += [to_betas] if layer.beta is not None else []
            return [to_x, *map(tf.reshape, to_copies, map(tf.shape, copies))]

        return x * factor + shift, gradients

    return run(x, *copies)


def _statistics(x: tf.Tensor, axes: _Axes, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and `1 / sqrt(variance + epsilon)`, which broadcast with x."""
    mean = _average(x, axes)
    return mean, tf.math.rsqrt(_average(tf.math.squared_difference(x, mean), axes) + epsilon)


def _average(x: tf.Tensor, axes: _Axes) -> tf.Tensor:
    """Averages over `axes.inside`, kept with size 1, or in groups as one value per channel.

    In groups, averaging positions first and keeping channels takes half the time.
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
    """Returns gradients with respect to x, and to each row's gamma and beta.

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
    """Sums delta, and delta times (x - mean); subtracting the mean's part later loses digits."""
    if not axes:
        return delta, (x - mean) * delta

    def both(rows: tf.Tensor, means: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        parts = (deltas, (rows - means) * deltas)
        return tf.stack([tf.reduce_sum(part, axes, keepdims=True) for part in parts], 1)

    shape = (2, *(1 if i in axes else x.shape[i] for i in range(1, x.shape.rank)))
    sums = by_chunks(both, [x, mean, delta], 2 * x.shape[1:].num_elements(), shape)
    return sums[:, 0], sums[:, 1]
