"""Gaussian noise from a secret key of this process, which no global seed can fix."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.keys import NotCopied
from tf_mtl_privacy.privacy.noise_record import MAX_WEIGHTS

_KEY_BYTES = 16
# Noised sums are multiples of a power of two between 2^-25 and 2^-24 standard deviations.
_GRID_BITS = 24
# Cosines and sines of 2^12 directions are looked up, the rest of an angle is a Taylor series.
_DIRECTION_BITS = 12
# Share of the clip norm by which rounding may move a clipped sum: see clipping/contribution.py.
_SUM_ROUNDING = 1e-5
# TensorFlow's number for Philox, and the blocks by which its counter moves at once.
_PHILOX, _STRIDE = 1, 256


class SecretNoise(NotCopied):
    """Normal draws from Philox4x32-10 (Salmon et al. 2011) by Box and Muller (1958).

    The operating system supplies 128 secret bits: Philox's 64-bit key, and the upper half of its
    128-bit counter. The lower half starts at zero and moves past every block that a draw used, in
    one atomic operation, so no draw repeats, in concurrent threads either. Key and counter are in
    no checkpoint, and a process that continues from one has a new key. They do not depend on
    `keras.utils.set_random_seed` or `tf.random.set_seed`.

    A pair of values has a radius of 64 random bits (192 if it is large) and an angle of 64, and is
    computed in float64. The accounting adds the probability beyond the largest radius to delta
    (`noise_record.tail_probability`).

    Philox is not a cryptographic generator: docs/dp-optimizer.md describes the remaining risk.

    Args:
        key: for tests: a number in [0, 2^128) that makes the draws repeatable, so not private.
    """

    def __init__(self, key: int | None = None) -> None:
        secret = os.urandom(_KEY_BYTES) if key is None else key.to_bytes(_KEY_BYTES, "little")
        words = np.frombuffer(secret, "<u8")
        # Variables, because a constant would be saved with any exported function.
        self._key = _hidden(words[:1])
        # TensorFlow keeps a key in the third number.
        self._state = _hidden(np.array([0, words[1], 0], np.uint64).view(np.int64))

    def add(
        self,
        sums: Sequence[tf.Tensor],
        shapes: Sequence[tf.TensorShape],
        l2_norm_clip: float,
        stddev: float,
    ) -> list[tf.Tensor]:
        """Returns the sums with independent normal noise, rounded once.

        The last bits of floating-point noise reveal the sum under it (Mironov 2012), because
        float32 has more numbers near zero than elsewhere. So sum and noise are each rounded to
        multiples of one grid and added as whole numbers. The result is a function of the rounded
        sum plus ideal normal noise, for any sum. Rounding d values moves a sum by up to sqrt(d)
        grid steps more than `l2_norm_clip`, and rounding inside the sum by up to a
        hundred-thousandth of it more; the noise is larger by as much.

        Args:
            sums: float64 tensors, finite; a row moves them together by at most `l2_norm_clip` and
                a hundred-thousandth of it.
            shapes: their shapes, fully known even if a graph has lost them.
            l2_norm_clip: > 0.
            stddev: standard deviation of the noise, > 0.

        Returns:
            float32 tensors of the same shapes.
        """
        # frexp gives stddev = m 2^e with m in [0.5, 1).
        grid = math.ldexp(1.0, math.frexp(stddev)[1] - 1 - _GRID_BITS)
        size = sum(shape.num_elements() for shape in shapes)
        rounding = _SUM_ROUNDING + math.sqrt(size) * grid / l2_norm_clip
        scale = stddev * (1 + rounding) / grid
        noise = self.draw(shapes, scale)
        return [
            tf.cast(
                (tf.round(tf.cast(total, tf.float64) / grid) + tf.round(extra)) * grid, "float32"
            )
            for total, extra in zip(sums, noise, strict=True)
        ]

    def draw(self, shapes: Sequence[tf.TensorShape], stddev: Any) -> list[tf.Tensor]:
        """Returns one independent normal tensor per shape.

        Args:
            shapes: fully known shapes, at most 2^33 values in all.
            stddev: standard deviation, a scalar > 0.

        Returns:
            float64 tensors of these shapes, mean 0.

        Raises:
            UsageError: more values than the accounted tail covers.
        """
        sizes = [shape.num_elements() for shape in shapes]
        if sum(sizes) > MAX_WEIGHTS:
            raise UsageError(
                f"{sum(sizes):,} weights in one private update: expected at most {MAX_WEIGHTS:,}; "
                "train fewer of them"
            )
        values = tf.split(self._normal(sum(sizes), stddev), sizes)
        return [tf.reshape(value, shape) for value, shape in zip(values, shapes, strict=True)]

    def _normal(self, size: int, stddev: Any) -> tf.Tensor:
        pairs = (size + 1) // 2
        counter = self._take_counter(4 * pairs)
        words = self._words(pairs, counter)
        # A block of the counter gives two words, so the further ones begin after these.
        further = counter + tf.constant([2 * pairs, 0], tf.uint64)
        radius = radii(words[0], lambda: self._words(pairs, further))
        radius *= tf.cast(stddev, tf.float64)
        cosine, sine = directions(words[1])
        return tf.concat([radius * cosine, radius * sine], 0)[:size]

    def _take_counter(self, blocks: int) -> tf.Tensor:
        """Returns the counter `[2]` uint64 and advances it by at least `blocks`.

        One atomic operation: two threads that read before either advanced would draw the same
        noise.
        """
        state = tf.raw_ops.RngReadAndSkip(
            resource=self._state.handle,
            alg=_PHILOX,
            delta=tf.constant(-(-blocks // _STRIDE), tf.uint64),
        )
        return tf.bitcast(state[:2], tf.uint64)

    def _words(self, pairs: int, counter: Any) -> tf.Tensor:
        """Returns `[2, pairs]` uint64."""
        return tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[2, pairs], key=self._key, counter=counter, alg=_PHILOX, dtype=tf.uint64
        )


def radii(leading: tf.Tensor, deeper: Any) -> tf.Tensor:
    """Returns Rayleigh radii sqrt(-2 ln u) of uniform u in (0, 1].

    A u whose first 32 bits are zero takes 128 more. The possible values of u are then nowhere
    further apart than 2^-32 u, and none is below 2^-192.

    Args:
        leading: `[N]` uint64, the first 64 bits of each u.
        deeper: called without arguments in the rare draw that needs it -> `[2, N]` uint64.

    Returns:
        `[N]` float64 in [0, 16.315].
    """
    first, small = tf.cast(leading, tf.float64), 2.0**32

    def extended() -> tf.Tensor:
        second, third = tf.unstack(tf.cast(deeper(), tf.float64))
        more = (second + (third + 1.0) * 2.0**-64) * 2.0**-64
        return first + tf.where(first < small, more, tf.constant(0.5, tf.float64))

    scaled = tf.cond(tf.reduce_any(first < small), extended, lambda: first + 0.5)
    return tf.sqrt(-2.0 * tf.math.log(scaled * 2.0**-64))


def directions(words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns cosine and sine of the angles 2 pi words / 2^64, to 1e-15.

    Three times as fast as TensorFlow's float64 functions on a CPU: the upper bits choose one of
    4,096 directions, from which the lower bits turn by less than 0.0016.

    Args:
        words: `[N]` uint64.

    Returns:
        Two `[N]` float64 tensors.
    """
    low_bits = 64 - _DIRECTION_BITS
    index = tf.cast(tf.bitwise.right_shift(words, tf.constant(low_bits, tf.uint64)), tf.int32)
    lower = tf.bitwise.bitwise_and(words, tf.constant(2**low_bits - 1, tf.uint64))
    turn = tf.cast(lower, tf.float64) * (2 * math.pi * 2.0**-64)
    angles = np.arange(2**_DIRECTION_BITS) * (2 * math.pi / 2**_DIRECTION_BITS)
    cosine, sine = (tf.gather(table, index) for table in (np.cos(angles), np.sin(angles)))
    square = turn * turn
    along = 1.0 - square * (0.5 - square * (1 / 24))
    across = turn * (1.0 - square * (1 / 6 - square * (1 / 120)))
    return cosine * along - sine * across, sine * along + cosine * across


def _hidden(value: np.ndarray) -> tf.Variable:
    """Returns a variable that stays equal on all replicas of a distribution strategy."""
    return tf.Variable(
        value,
        dtype=tf.as_dtype(value.dtype),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
