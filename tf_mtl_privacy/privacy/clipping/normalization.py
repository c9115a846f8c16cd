"""Ghost clipping of LayerNormalization and GroupNormalization: their scale and offset."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.chunks import by_chunks
from tf_mtl_privacy.privacy.clipping.contribution import Contribution, instantiated


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


class Normalized(NamedTuple):
    """`(x - mean) * inverse`, not yet computed: it is needed again only for the scale's gradient.

    For groups, `x` is split: `[B, ..., groups, channels per group]`.
    """

    x: tf.Tensor
    mean: tf.Tensor
    inverse: tf.Tensor

    @classmethod
    def over(cls, x: tf.Tensor, axes: list[int], epsilon: float) -> Normalized:
        """By the mean and variance over `axes`."""
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
        return cls(x, mean, tf.math.rsqrt(variance + epsilon))

    def affine(self, gamma: Any, beta: Any, shape: list[int]) -> tf.Tensor:
        """Scaled by gamma and shifted by beta, both brought into `shape`."""
        inverse = self.inverse
        if gamma is not None:
            inverse = inverse * tf.reshape(gamma.value, shape)
        shift = -self.mean * inverse
        if beta is not None:
            shift = shift + tf.reshape(beta.value, shape)
        return self.x * inverse + shift

    def values(self) -> tf.Tensor:
        """The normalised `x`."""
        return (self.x - self.mean) * self.inverse


def layer_forward(layer: Any, x: tf.Tensor) -> tuple[Normalized, tf.Tensor]:
    """`[B, ...]` -> (what normalises it, scaled and shifted); Ba et al. 2016."""
    axes = _positive(layer.axis, x.shape.rank)
    kept = Normalized.over(x, axes, layer.epsilon)
    shape = [x.shape[i] if i in axes else 1 for i in range(x.shape.rank)]
    return kept, kept.affine(layer.gamma, layer.beta, shape)


def layer_contributions(layer: Any, kept: Normalized, delta: tf.Tensor) -> list[Contribution]:
    """Of gamma and beta."""
    axes = _positive(layer.axis, delta.shape.rank)
    return _contributions(layer, kept, delta, axes)


def group_forward(layer: Any, x: tf.Tensor) -> tuple[Normalized, tf.Tensor]:
    """`[B, ...]` -> (what normalises it, scaled and shifted); Wu and He 2018."""
    (axis,) = _positive([layer.axis], x.shape.rank)
    sizes = [-1, *x.shape[1:]]
    split = [*sizes[:axis], layer.groups, sizes[axis] // layer.groups, *sizes[axis + 1 :]]
    grouped = tf.reshape(x, split)
    inside = [i for i in range(1, len(split)) if i != axis]
    kept = Normalized.over(grouped, inside, layer.epsilon)
    shape = [split[i] if i in (axis, axis + 1) else 1 for i in range(len(split))]
    z = kept.affine(layer.gamma, layer.beta, shape)
    return kept, tf.reshape(z, sizes)


def group_contributions(layer: Any, kept: Normalized, delta: tf.Tensor) -> list[Contribution]:
    """Of gamma and beta."""
    axes = _positive([layer.axis], delta.shape.rank)
    return _contributions(layer, kept, delta, axes)


def _contributions(
    layer: Any, kept: Normalized, delta: tf.Tensor, axes: list[int]
) -> list[Contribution]:
    others = [i for i in range(1, delta.shape.rank) if i not in axes]
    shape = tuple(delta.shape[i] for i in axes)
    floats = 2 * (delta.shape[1:].num_elements() or 1)

    def scaled(x: tf.Tensor, mean: tf.Tensor, inverse: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        normal = tf.reshape(Normalized(x, mean, inverse).values(), tf.shape(deltas))
        return tf.reduce_sum(deltas * normal, others)

    found = []
    if layer.gamma is not None:
        gradients = by_chunks(scaled, [*kept, delta], floats, shape)
        found.append(instantiated(layer.gamma, gradients))
    if layer.beta is not None:
        found.append(instantiated(layer.beta, tf.reduce_sum(delta, others)))
    return found


def _positive(axes: Any, rank: int) -> list[int]:
    return sorted(axis % rank for axis in axes)
