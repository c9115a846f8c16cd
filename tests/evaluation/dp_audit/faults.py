"""Faults planted into the code that makes private updates."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping import ghost
from tf_mtl_privacy.privacy.clipping.request import Clipped, Factors
from tf_mtl_privacy.privacy.noise import SecretNoise


@contextmanager
def halved_noise() -> Iterator[None]:
    whole = SecretNoise.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecretNoise, "draw", lambda self, s, stddev: whole(self, s, stddev / 2))
        yield


@contextmanager
def clipping_off() -> Iterator[None]:
    def keep_all(squared_norms, clip, mask):
        counts = tf.ones_like(squared_norms, tf.bool) if mask is None else mask
        finite = tf.ones_like(squared_norms, tf.bool)
        return Factors(tf.cast(counts, tf.float32), finite, tf.constant(True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ghost, "clip_factors", keep_all)
        yield


@contextmanager
def clipping_by_variable() -> Iterator[None]:
    whole = ghost.clipped_sum

    def each_alone(request):
        parts = [whole(dataclasses.replace(request, variables=[v])) for v in request.variables]
        return Clipped(parts[0].losses, [part.sums[0] for part in parts], parts[0].skipped)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ghost, "clipped_sum", each_alone)
        yield
