"""Ghost clipping of Conv2D and DepthwiseConv2D.

To the kernel, a convolution is a Dense layer on the patches under it, one per position. The
patches are made for some rows at a time, once for the norms and once for the clipped sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.contribution import (
    Contribution,
    Sizes,
    recomputed,
    sequence_product,
)
from tf_mtl_privacy.privacy.clipping.dense import bias_contribution, flatten


def check(layer: Any) -> None:
    """Refuses what the formulas below do not cover."""
    for name, wanted in (("data_format", "channels_last"), ("groups", 1)):
        value = getattr(layer, name, wanted)
        if value != wanted:
            raise UsageError(
                f"layer {layer.name} ({type(layer).__name__}): {name}={value!r}: ghost clipping "
                f"needs {wanted!r}; use clipping='vectorized'"
            )


def forward(layer: Any, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`[B, H, W, c]` -> (the same, convolution plus bias `[B, h, w, m]`)."""
    return x, _add_bias(layer, keras.ops.conv(x, layer.kernel.value, **_options(layer)))


def contributions(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Of kernel `[kh, kw, c, m]` and bias `[m]`."""
    positions = delta.shape[1:-1].num_elements()
    sizes = Sizes(positions, _patch_size(layer, x), delta.shape[-1])

    def factors_of(rows: tf.Tensor, deltas: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return flatten(_patches(layer, rows)), flatten(deltas)

    # Patches are held twice while they are put together, by two threads.
    floats = 4 * (positions or 0) * sizes.n
    kernel = sequence_product(layer.kernel, [x, delta], sizes, factors_of, floats)
    return [kernel, *bias_contribution(layer.bias, delta)]


def depthwise_forward(layer: Any, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`[B, H, W, c]` -> (the same, depthwise convolution plus bias `[B, h, w, c * k]`)."""
    # Keras' own operation, not TensorFlow's: that one means something else by a stride together
    # with a dilation.
    return x, _add_bias(layer, keras.ops.depthwise_conv(x, layer.kernel.value, **_options(layer)))


def depthwise_contributions(layer: Any, x: tf.Tensor, delta: tf.Tensor) -> list[Contribution]:
    """Of kernel `[kh, kw, c, k]` and bias `[c * k]`; a channel's patches meet its own deltas."""
    channels, multiplier = x.shape[-1], layer.kernel.shape[-1]
    places = _patch_size(layer, x) // channels

    def gradients(rows: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        patches = flatten(_patches(layer, rows))
        patches = tf.reshape(patches, [tf.shape(rows)[0], -1, places, channels])
        deltas = tf.reshape(deltas, [tf.shape(rows)[0], -1, channels, multiplier])
        return tf.einsum("btpc,btck->bpck", patches, deltas)

    positions = delta.shape[1:-1].num_elements() or 1
    floats = positions * channels * (2 * places + multiplier)
    kernel = recomputed(layer.kernel, [x, delta], gradients, floats)
    return [kernel, *bias_contribution(layer.bias, delta)]


def _options(layer: Any) -> dict[str, Any]:
    return {
        "strides": tuple(layer.strides),
        "padding": layer.padding,
        "data_format": layer.data_format,
        "dilation_rate": tuple(layer.dilation_rate),
    }


def _add_bias(layer: Any, z: tf.Tensor) -> tf.Tensor:
    return z if layer.bias is None else tf.nn.bias_add(z, layer.bias.value)


def _patch_size(layer: Any, x: tf.Tensor) -> int:
    return int(layer.kernel.shape[0] * layer.kernel.shape[1] * x.shape[-1])


def _patches(layer: Any, x: tf.Tensor) -> tf.Tensor:
    """`[B, h, w, kh * kw * c]`: the inputs under the kernel at each position."""
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
    """The same, put together from shifted copies: about half the time of `extract_patches`.

    Taking every s-th value is slow; so the s * s values of a cell first become channels
    (`space_to_depth`), of which every copy takes some, without gaps.
    """
    stride, channels = layer.strides[0], x.shape[-1]
    sides = [_side(layer, x, axis) for axis in (0, 1)]
    # What no patch reaches is cut off, what a patch reaches over is zero.
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
    """Where the kernel stands along one axis: see `_side`."""

    positions: int
    before: int
    offsets: range
    reach: int


def _side(layer: Any, x: tf.Tensor, axis: int) -> _Side:
    """Number of positions, padding before the first, the kernel's offsets, and where it all ends.

    The end counts the padding, and is rounded up to whole strides.
    """
    size, kernel = x.shape[1 + axis], layer.kernel.shape[axis]
    stride, rate = layer.strides[axis], layer.dilation_rate[axis]
    span = (kernel - 1) * rate + 1
    same = layer.padding == "same"
    positions = -(-size // stride) if same else (size - span) // stride + 1
    before = max((positions - 1) * stride + span - size, 0) // 2 if same else 0
    reach = (positions + (span - 1) // stride) * stride
    return _Side(positions, before, range(0, span, rate), reach)
