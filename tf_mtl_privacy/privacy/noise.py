"""Gaussian noise from a key that only this process knows and no global seed can fix."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.privacy.keys import NotCopied

_KEY_BYTES = 16


class SecretNoise(NotCopied):
    """Normal draws, Philox4x32-10 (Salmon et al. 2011) turned normal by Box and Muller (1958).

    The operating system gives 128 secret bits: Philox's 64-bit key, and the upper half of its
    128-bit counter. The lower half starts at zero and moves past every block that a draw used, so
    no draw repeats. Key and counter live in this object alone: they are in no checkpoint, and a
    process that goes on from one has a new key. `keras.utils.set_random_seed` and
    `tf.random.set_seed` have no part in it.

    Philox is not a cryptographic generator: see docs/dp-optimizer.md for what that leaves open.
    Where the library's own `tf.random.stateless_normal` computes Box-Muller value by value, here
    its steps run on whole arrays, which is about three times as fast.

    Args:
        key: for tests: a number in [0, 2^128) that makes the draws repeatable, and worthless as
            protection.
    """

    def __init__(self, key: int | None = None) -> None:
        secret = os.urandom(_KEY_BYTES) if key is None else key.to_bytes(_KEY_BYTES, "little")
        words = np.frombuffer(secret, "<u8")
        # Variables, because a constant would be written out with any function that is saved.
        self._key = _hidden(words[:1])
        self._counter = _hidden(np.array([0, words[1]], np.uint64))

    def draw(self, shapes: Sequence[tf.TensorShape], stddev: Any) -> list[tf.Tensor]:
        """One independent normal tensor per shape.

        Args:
            shapes: fully known shapes.
            stddev: standard deviation, a scalar > 0.

        Returns:
            float32 tensors of these shapes, mean 0. No value exceeds 5.65 standard deviations,
            the reach of 23 random bits.
        """
        sizes = [shape.num_elements() for shape in shapes]
        values = tf.split(self._normal(sum(sizes), stddev), sizes)
        return [tf.reshape(value, shape) for value, shape in zip(values, shapes, strict=True)]

    def _normal(self, size: int, stddev: Any) -> tf.Tensor:
        pairs = (size + 1) // 2
        uniform = tf.raw_ops.StatelessRandomUniformV2(
            shape=[2, pairs], key=self._key, counter=self._counter, alg=1
        )
        # A block of the counter gives four values; stepping over one per value is ample.
        self._counter.assign_add(tf.constant([2 * pairs, 0], tf.uint64))
        stddev = tf.cast(stddev, tf.float32)
        radius = tf.sqrt(tf.math.log(1.0 - uniform[0]) * (-2.0 * stddev * stddev))
        angle = uniform[1] * (2.0 * math.pi)
        return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 0)[:size]


def _hidden(value: np.ndarray) -> tf.Variable:
    """A variable that replicas of a distribution strategy keep alike."""
    return tf.Variable(
        value,
        dtype=tf.uint64,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
