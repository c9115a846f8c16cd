"""Gradient canaries in one run of the shipped update function.

A linear layer without bias, n inputs and n outputs, has n^2 weights. Canary i = a n + b is the
example whose input is the unit vector e_a and whose loss is -s times output b: its gradient is -s
in weight (a, b) and 0 elsewhere. So the canaries' gradients are orthogonal, each far longer than
the clip norm, and clipping, summing and noise are done by the code that trains. The attacker sees
every noised gradient and reads canary i's own weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.evaluation.dp_audit.bound import Array, evidence
from tf_mtl_privacy.evaluation.dp_audit.updates import (
    MakeOptimizer,
    UpdateSettings,
    as_array,
    noise_key,
    released_gradient,
)
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun
from tf_mtl_privacy.privacy.batch_selection import PADDING, PoissonBatches
from tf_mtl_privacy.privacy.keys import SecretKey

# Norm of a canary's gradient over the clip norm: without clipping it sticks out that far.
STRENGTH = 10.0


class Visit(NamedTuple):
    """One update's batch.

    Attributes:
        rows: `[places]` int64 numbers of canaries, -1 for padding.
        mask: `[places]` bool, which of them are there.
        looked_at: who could be in it, as far as the attacker knows: an index into `[m]`.
    """

    rows: Array
    mask: Array
    looked_at: Any


def whole_square(canaries: int) -> int:
    """The largest square number that is at most `canaries` (>= 1)."""
    return math.isqrt(canaries) ** 2


def scores_of_one_run(
    phases: Sequence[MechanismRun],
    included: Array,
    *,
    l2_norm_clip: float,
    noise_factor: float = 1.0,
    clipping: str = "ghost",
    make_optimizer: MakeOptimizer,
    key: SecretKey,
    done: Callable[[int], None] = lambda count: None,
) -> Array:
    """Runs all updates once, with the canaries that are in, and scores all canaries.

    Args:
        phases: the updates; their noise multipliers are what is claimed.
        included: `[m]` bool, the coins; m a square number.
        l2_norm_clip: C.
        noise_factor: what the noise multipliers are multiplied by: 0 for an attack without noise.
        clipping: the clipping backend.
        make_optimizer: makes the private optimizer.
        key: where batches are drawn from.
        done: called with 1 after every update.

    Returns:
        `[m]` float64 scores; higher speaks for "in".
    """
    scores = np.zeros(len(included))
    for number, phase in enumerate(phases):
        mechanism, own = phase.mechanism, key.derive(f"audit/{number}")
        settings = UpdateSettings(
            l2_norm_clip,
            noise_factor * mechanism.noise_multiplier,
            mechanism.sampling_probability * len(included),
            clipping,
            noise_key(own, "one run"),
        )
        update = _canary_update(math.isqrt(len(included)), settings, make_optimizer)
        poisson = mechanism.sampling == POISSON
        q = mechanism.sampling_probability if poisson else 1.0
        visits = _poisson_visits if poisson else _shuffled_visits
        for visit in visits(phase, included, own):
            seen = as_array(update(visit.rows, visit.mask))[visit.looked_at]
            scores[visit.looked_at] += evidence(seen, mechanism.noise_multiplier, q)
            done(1)
    return scores


def _canary_update(
    n: int, settings: UpdateSettings, make_optimizer: MakeOptimizer
) -> Callable[[Array, Array], tf.Tensor]:
    """`(rows, mask)` -> `[n * n]`, the noised sum along each canary's direction, over C."""
    model = keras.Sequential(
        [keras.Input((n,)), keras.layers.Dense(n, use_bias=False, kernel_initializer="zeros")]
    )
    optimizer = make_optimizer(model, settings)
    (released,) = released_gradient(optimizer, model)
    length = STRENGTH * settings.l2_norm_clip

    @tf.function(autograph=False, reduce_retracing=True)
    def update(rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        columns = tf.one_hot(rows % n, n)
        optimizer.minimize(
            tf.one_hot(rows // n, n),
            lambda outputs: -length * tf.reduce_sum(outputs * columns, 1),
            mask=mask,
        )
        total = released * settings.expected_batch_size
        return tf.reshape(-total / settings.l2_norm_clip, [-1])

    return lambda rows, mask: update(tf.constant(rows), tf.constant(mask))


def _poisson_visits(phase: MechanismRun, included: Array, key: SecretKey) -> Iterator[Visit]:
    """Batches of those that are in: everybody could be in every one."""
    batches = PoissonBatches(
        np.flatnonzero(included), phase.mechanism.sampling_probability, key=key.derive("batches")
    )
    for step in range(phase.steps):
        epoch, within = divmod(step, batches.steps_per_epoch)
        rows, mask = batches.batch(epoch, within)
        yield Visit(rows, mask, slice(None))


def _shuffled_visits(phase: MechanismRun, included: Array, key: SecretKey) -> Iterator[Visit]:
    """Shuffled epochs, whose order is no secret; who is out leaves an empty place."""
    count, m = phase.mechanism.steps_per_epoch, len(included)
    places = -(-m // count)
    for step in range(min(phase.steps, phase.exposures * count)):
        epoch, within = divmod(step, count)
        order = key.generator(epoch).permutation(m)
        members = order[within * places : (within + 1) * places]
        rows = np.full(places, PADDING, np.int64)
        rows[: len(members)] = members
        mask = np.zeros(places, bool)
        mask[: len(members)] = included[members]
        yield Visit(rows, mask, members)
