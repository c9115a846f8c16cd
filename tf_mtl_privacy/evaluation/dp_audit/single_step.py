"""One noised update, repeated many times with and without a canary.

The update is that of a small convolutional network with a few other rows in the batch, so that
clipping has to act on all its weights together. The canary's gradient is ten clip norms long; the
attacker takes the noised sum along its direction. With C the clip norm and z the noise multiplier
that is mu-Gaussian privacy with mu = 1/z (Dong, Roth and Su 2022, theorem 2.7), if clipping and
noise are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tf_mtl_privacy.evaluation.dp_audit.updates import (
    MakeOptimizer,
    UpdateSettings,
    as_array,
    released_gradient,
)
from tf_mtl_privacy.evaluation.intervals import clopper_pearson
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian

_SIDE, _CLASSES, _OTHERS = 6, 4, 3
_STRENGTH = 10.0
_AT_ONCE = 250
# With the canary, without it.
_BOTH = (True, False)


class SingleStep(NamedTuple):
    """What the repetitions showed.

    Attributes:
        mu_lower: lower bound on mu, >= 0.
        mu_claimed: 1/z.
        epsilon_lower: what `mu_lower` is worth at the claim's delta.
        epsilon_claimed: what `mu_claimed` is worth there: of this one update, not of the run.
        max_detectable: epsilon if every repetition had been told right.
        true_positive_rate: of the repetitions that count, with the canary.
        false_positive_rate: the same without it.
        runs: repetitions that count, with the canary and as many without.
    """

    mu_lower: float
    mu_claimed: float
    epsilon_lower: float
    epsilon_claimed: float
    max_detectable: float
    true_positive_rate: float
    false_positive_rate: float
    runs: int


def runs_needed(noise_multiplier: float, error: float) -> int:
    """Repetitions with which half the noise would be noticed, for small mu and 19 times in 20.

    A rate of a half is known to within u sqrt(1/(4 n)) for a normal quantile u; both rates of
    Phi(+-mu/2) with mu twice the claim 1/z then differ by more than the claim's, where
    2 (u + 1.64) sqrt(1/(4 n)) / phi(0) <= 1/z.
    """
    quantile = stats.norm.isf(error / 2) + stats.norm.isf(0.05)
    return math.ceil((quantile * noise_multiplier / stats.norm.pdf(0.0)) ** 2)


def gaussian_bound(hits: int, alarms: int, runs: int, error: float) -> float:
    """Lower bound on mu of a mu-Gaussian mechanism, from a test with a threshold set in advance.

    `Phi^-1(TPR) - Phi^-1(FPR) <= mu` for every test (Dong, Roth and Su 2022, definition 2.6); both
    rates are replaced by Clopper and Pearson's (1934) exact bounds, each wrong with probability
    `error` / 2.

    Args:
        hits: how often the canary was seen where it was, of `runs`.
        alarms: how often it was seen where it was not, of `runs`.
        runs: > 0.
        error: in (0, 1).
    """
    true_low = clopper_pearson(hits, runs, 1 - error)[0]
    false_high = clopper_pearson(alarms, runs, 1 - error)[1]
    return max(0.0, float(stats.norm.ppf(true_low) - stats.norm.ppf(false_high)))


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The epsilon of a mu-Gaussian mechanism at `delta`; 0 for mu = 0."""
    if mu <= 0:
        return 0.0
    return epsilon([MechanismRun(SampledGaussian(1 / mu, 1.0), 1)], delta)


def repeat_one_update(
    noise_multiplier: float,
    l2_norm_clip: float,
    delta: float,
    *,
    runs: int,
    error: float,
    clipping: str = "ghost",
    make_optimizer: MakeOptimizer,
    key: int | None = None,
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> SingleStep:
    """Repeats one update and bounds its privacy from below.

    The threshold is half way between the means of a first part of `runs` / 4 repetitions with and
    without the canary; only the repetitions after it count.

    Args:
        noise_multiplier: z as it is claimed, > 0.
        l2_norm_clip: C.
        delta: where mu is turned into epsilon.
        runs: repetitions that count, with the canary and as many without, > 0.
        error: the bound may be wrong with at most this probability.
        clipping: the clipping backend.
        make_optimizer: makes the private optimizer.
        key: of the noise, for tests.
        seed: of weights and pictures.
        done: called with the number of repetitions done.
    """
    settings = UpdateSettings(l2_norm_clip, noise_multiplier, 1.0, clipping, key)
    seen = _repeater(settings, make_optimizer, seed)
    with_first, without_first = (_many(seen, there, max(1, runs // 4), done) for there in _BOTH)
    threshold = (with_first.mean() + without_first.mean()) / 2
    hits, alarms = (int((_many(seen, there, runs, done) > threshold).sum()) for there in _BOTH)
    lower, most = (gaussian_bound(*c, runs, error) for c in ((hits, alarms), (runs, 0)))
    return SingleStep(
        mu_lower=lower,
        mu_claimed=1 / noise_multiplier,
        epsilon_lower=epsilon_of_mu(lower, delta),
        epsilon_claimed=epsilon_of_mu(1 / noise_multiplier, delta),
        max_detectable=epsilon_of_mu(most, delta),
        true_positive_rate=hits / runs,
        false_positive_rate=alarms / runs,
        runs=runs,
    )


def _many(
    seen: Callable[[bool, int], Any], present: bool, runs: int, done: Callable[[int], None]
) -> Any:
    """`runs` repetitions, a block at a time."""
    found = []
    for start in range(0, runs, _AT_ONCE):
        count = min(_AT_ONCE, runs - start)
        found.append(seen(present, count))
        done(count)
    return np.concatenate(found)


def _repeater(
    settings: UpdateSettings, make_optimizer: MakeOptimizer, seed: int
) -> Callable[[bool, int], Any]:
    """`(is the canary there, n)` -> `[n]` noised sums along its gradient, over the clip norm."""
    rng = np.random.default_rng(seed)
    model = _network(rng)
    rows = tf.constant(rng.normal(size=(1 + _OTHERS, _SIDE, _SIDE, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, _CLASSES, 1 + _OTHERS))
    direction, norm = _canary_direction(model, rows[:1], labels[:1])
    scale = _STRENGTH * settings.l2_norm_clip / norm
    optimizer = make_optimizer(model, settings)
    released = released_gradient(optimizer, model)

    def losses(logits: tf.Tensor) -> tf.Tensor:
        return scale * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    @tf.function(autograph=False, reduce_retracing=True)
    def repeat(mask: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        def once(_: tf.Tensor) -> tf.Tensor:
            optimizer.minimize(rows, losses, mask=mask)
            along = [tf.reduce_sum(g * d) for g, d in zip(released, direction, strict=True)]
            return tf.add_n(along) / settings.l2_norm_clip

        # One after the other: each update reads what it wrote before it.
        return tf.map_fn(
            once, tf.range(count), fn_output_signature=tf.float32, parallel_iterations=1
        )

    def seen(present: bool, count: int) -> Any:
        mask = tf.constant([present, *[True] * _OTHERS])
        return as_array(repeat(mask, tf.constant(count)))

    return seen


def _network(rng: np.random.Generator) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((_SIDE, _SIDE, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GroupNormalization(2),
            keras.layers.Flatten(),
            keras.layers.Dense(_CLASSES),
        ]
    )
    model.set_weights(
        [rng.normal(0.0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def _canary_direction(
    model: keras.Model, row: tf.Tensor, label: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The canary's gradient as a unit vector, and its norm, by plain differentiation."""
    weights = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        logits = model(row, training=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
    gradients = tape.gradient(loss, weights)
    norm = tf.linalg.global_norm(gradients)
    return [gradient / norm for gradient in gradients], norm
