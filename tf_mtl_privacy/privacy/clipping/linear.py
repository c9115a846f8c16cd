"""Layer rules of Dense, Conv2D and DepthwiseConv2D.

To its kernel, a convolution is a Dense layer applied to the patch at each position. Patches are
made for a few rows at a time, once for the norms and once for the clipped sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping.contribution import (
    Contribution,
    Sizes,
    instantiated,
    outer_product,
    recomputed,
    sequence_product,
)
from tf_mtl_privacy.privacy.clipping.rules import Pass, Watch, refusal, register_layer_rule

_VARIABLES = ("kernel", "bias")


def _forward(product: Callable[[Any, tf.Tensor], tf.Tensor]) -> Callable[..., Pass]:
    """Adds the bias to a product with the kernel and watches the result."""

    def forward(layer: Any, x: tf.Tensor, watch: Watch) -> Pass:
        z = product(layer, x)
        z = z if layer.bias is None else tf.nn.bias_add(z, layer.bias.value)
        watch(z)
        return Pass(x, z, z)

    return forward


def _dense(layer: Any, x: tf.Tensor) -> tf.Tensor:
    kernel = tf.convert_to_tensor(layer.kernel.value)
    return tf.matmul(x, kernel) if x.shape.rank == 2 else tf.tensordot(x, kernel, 1)


@register_layer_rule(keras.layers.Dense, forward=_forward(_dense), variables=_VARIABLES)
def dense_gradients(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Returns gradients of kernel `[n, m]` and bias `[m]` for `x` `[B, ..., n]`."""
    if x.shape.rank == 2:
        kernel = outer_product(layer.kernel, x, delta)
    else:
        left, right = _flatten(x), _flatten(delta)
        sizes = Sizes(left.shape[1], left.shape[2], right.shape[2])
        kernel = sequence_product(layer.kernel, [left, right], sizes)
    return [kernel, *_bias_gradients(layer, delta)]


def _options(layer: Any) -> dict[str, Any]:
    return {
        "strides": tuple(layer.strides),
        "padding": layer.padding,
        "data_format": layer.data_format,
        "dilation_rate": tuple(layer.dilation_rate),
    }


def _convolution(layer: Any, x: tf.Tensor) -> tf.Tensor:
    return keras.ops.conv(x, layer.kernel.value, **_options(layer))


def _depthwise(layer: Any, x: tf.Tensor) -> tf.Tensor:
    # Keras' operation, because TensorFlow's defines a stride together with a dilation differently.
    return keras.ops.depthwise_conv(x, layer.kernel.value, **_options(layer))


def _check_convolution(layer: Any) -> None:
    for name, wanted in (("data_format", "channels_last"), ("groups", 1)):
        value = getattr(layer, name, wanted)
        if value != wanted:
            raise refusal(layer, f"needs {name}={wanted!r}, not {value!r}")


@register_layer_rule(
    keras.layers.Conv2D,
    forward=_forward(_convolution),
    check=_check_convolution,
    variables=_VARIABLES,
)
def convolution_gradients(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Returns gradients of kernel `[kh, kw, c, m]` and bias `[m]` for `x` `[B, H, W, c]`."""
    positions = delta.shape[1:-1].num_elements()
    sizes = Sizes(positions, _patch_size(layer, x), delta.shape[-1])

    def factors_of(rows: tf.Tensor, deltas: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _flatten(_patches(layer, rows)), _flatten(deltas)

    # Up to two threads hold patches, each twice while they are assembled.
    floats = 4 * (positions or 0) * sizes.n
    kernel = sequence_product(layer.kernel, [x, delta], sizes, factors_of, floats)
    return [kernel, *_bias_gradients(layer, delta)]


@register_layer_rule(
    keras.layers.DepthwiseConv2D,
    forward=_forward(_depthwise),
    check=_check_convolution,
    variables=_VARIABLES,
)
def depthwise_gradients(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Returns gradients of kernel `[kh, kw, c, k]` and bias `[c * k]` for `x` `[B, H, W, c]`."""
    channels, multiplier = x.shape[-1], layer.kernel.shape[-1]
    places = _patch_size(layer, x) // channels

    def gradients(rows: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        patches = _flatten(_patches(layer, rows))
        patches = tf.reshape(patches, [tf.shape(rows)[0], -1, places, channels])
        deltas = tf.reshape(deltas, [tf.shape(rows)[0], -1, channels, multiplier])
        return tf.einsum("btpc,btck->bpck", patches, deltas)

    positions = delta.shape[1:-1].num_elements() or 1
    floats = positions * channels * (2 * places + multiplier)
    kernel = recomputed(layer.kernel, [x, delta], gradients, floats)
    return [kernel, *_bias_gradients(layer, delta)]


def _bias_gradients(layer: Any, delta: tf.Tensor) -> list[Contribution]:
    """Returns gradients of a bias over the last axis; empty without a bias."""
    if layer.bias is None:
        return []
    summed = delta if delta.shape.rank == 2 else tf.reduce_sum(_flatten(delta), 1)
    return [instantiated(layer.bias, summed)]


def _flatten(value: tf.Tensor) -> tf.Tensor:
    """Reshapes `[B, ..., c]` to `[B, T, c]`."""
    positions, channels = value.shape[1:-1].num_elements(), value.shape[-1]
    if positions is None:
        return tf.reshape(value, tf.stack([tf.shape(value)[0], -1, channels]))
    return tf.reshape(value, [-1, positions, channels])


def _patch_size(layer: Any, x: tf.Tensor) -> int:
    return int(layer.kernel.shape[0] * layer.kernel.shape[1] * x.shape[-1])


def _patches(layer: Any, x: tf.Tensor) -> tf.Tensor:
    """Returns `[B, h, w, kh * kw * c]`: the inputs under the kernel at each position."""
    if tuple(layer.kernel.shape[:2]) == (1, 1) and tuple(layer.strides) == (1, 1):
        return x
    if layer.strides[0] == layer.strides[1] and None not in x.shape[1:]:
        return _patches_by_slices(layer, x)
    return tf.image.extract_patches(
        x,
        sizes=[1, *layer.kernel.shape[:2], 1],
        strides=[1, *layer.strides, 1],
        rates=[1, *layer.dilation_rate, 1],
        padding=layer.padding.upper(),
    )


def _patches_by_slices(layer: Any, x: tf.Tensor) -> tf.Tensor:
    """Puts the patches together from shifted copies, in half the time of `extract_patches`.

    Taking every s-th value is slow, so the s * s values of a cell first become channels
    (`space_to_depth`); every copy is then a slice without gaps.
    """
    stride, channels = layer.strides[0], x.shape[-1]
    sides = [_side(layer, x, axis) for axis in (0, 1)]
    # Values beyond the last patch are cut off; where a patch reaches beyond them, zeros are added.
    x = x[:, : sides[0].reach - sides[0].before, : sides[1].reach - sides[1].before]
    after = [side.reach - side.before - x.shape[1 + i] for i, side in enumerate(sides)]
    x = tf.pad(
        x, [[0, 0], *([side.before, end] for side, end in zip(sides, after, strict=True)), [0, 0]]
    )
    cells = tf.nn.space_to_depth(x, stride) if stride > 1 else x
    copies = []
    for row in sides[0].offsets:
        for column in sides[1].offsets:
            (top, a), (left, b) = divmod(row, stride), divmod(column, stride)
            first = (a * stride + b) * channels
            copies.append(
                cells[
                    :,
                    top : top + sides[0].positions,
                    left : left + sides[1].positions,
                    first : first + channels,
                ]
            )
    return tf.concat(copies, -1)


class _Side(NamedTuple):
    """Positions of the kernel along one axis.

    Attributes:
        positions: their number.
        before: padding before the first one.
        offsets: of the kernel's values from its first.
        reach: end of the last position, padding included, rounded up to whole strides.
    """

    positions: int
    before: int
    offsets: range
    reach: int


def _side(layer: Any, x: tf.Tensor, axis: int) -> _Side:
    size, kernel = x.shape[1 + axis], layer.kernel.shape[axis]
    stride, rate = layer.strides[axis], layer.dilation_rate[axis]
    span = (kernel - 1) * rate + 1
    same = layer.padding == "same"
    positions = -(-size // stride) if same else (size - span) // stride + 1
    before = max((positions - 1) * stride + span - size, 0) // 2 if same else 0
    reach = (positions + (span - 1) // stride) * stride
    return _Side(positions, before, range(0, span, rate), reach)
