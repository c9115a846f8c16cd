"""Canary experiments on the shipped private update: many canaries in one run, one update repeated.

One run (`scores_of_one_run`): a linear layer without bias, n inputs and n outputs, has n^2 weights.
Canary i = a n + b is the example with the unit vector e_a as input and -s times output b as loss:
its gradient is -s in weight (a, b) and 0 elsewhere. The canaries' gradients are therefore
orthogonal and far longer than the clip norm, and the training code does the clipping, summing and
noising. The attacker sees every noised gradient and reads canary i's own weight.

One update (`repeat_one_update`): the update of a small convolutional network with a few other rows
in the batch, so that clipping acts on all its weights together. The canary's gradient is ten clip
norms long; the attacker takes the noised sum along its direction. With clip norm C and noise
multiplier z that is mu-Gaussian privacy with mu = 1/z (Dong, Roth and Su 2022, theorem 2.7), if
clipping and noise are correct.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tf_mtl_privacy.evaluation.dp_audit.bound import evidence
from tf_mtl_privacy.evaluation.intervals import clopper_pearson
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.batch_selection import PADDING, PoissonBatches
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.privacy.optimizer import DPAdam, DPOptimizer
from tf_mtl_privacy.types import Array

# Norm of a canary's gradient over the clip norm.
STRENGTH = 10.0


class UpdateSettings(NamedTuple):
    """Arguments of a private optimizer.

    Attributes:
        l2_norm_clip: C, > 0.
        noise_multiplier: z >= 0; the noise on the sum has standard deviation z C.
        expected_batch_size: divisor of the sum, > 0.
        clipping: 'ghost', 'vectorized' or 'per_example'.
        noise_key: None for secret noise; a number for repeatable tests.
    """

    l2_norm_clip: float
    noise_multiplier: float
    expected_batch_size: float
    clipping: str = "ghost"
    noise_key: int | None = None


MakeOptimizer = Callable[[keras.Model, UpdateSettings], DPOptimizer]


def shipped_optimizer(model: keras.Model, settings: UpdateSettings) -> DPOptimizer:
    """Builds training's `DPAdam` with beta_1 = 0, so that its first moment is the gradient."""
    return DPAdam(
        model,
        learning_rate=0.0,
        beta_1=0.0,
        allow_zero_noise=settings.noise_multiplier == 0,
        **settings._asdict(),
    )


def released_gradient(optimizer: DPOptimizer, model: keras.Model) -> list[tf.Variable]:
    """Returns the variables with the last noised gradient: Adam's first moments at beta_1 = 0.

    A checkpoint has them, so an attacker may see them.
    """
    count = len(model.trainable_variables)
    # The step counter comes first, then all first moments, then all second moments.
    return list(optimizer.variables[1 : 1 + count])


def noise_key(key: SecretKey, name: str) -> int | None:
    """Returns a repeatable key if `key` is a test's; else None, so that the noise is secret."""
    return int(key.derive(f"noise/{name}").words(1)[0]) if key.is_test else None


def as_array(tensor: Any) -> Any:
    """Converts a tensor to NumPy float64."""
    return tensor.numpy().astype("float64")


class Visit(NamedTuple):
    """One update's batch.

    Attributes:
        rows: `[places]` int64 numbers of canaries, -1 for padding.
        mask: `[places]` bool, False for padding.
        possible: index into `[m]`, the canaries that could be in it, as far as the attacker knows.
    """

    rows: Array
    mask: Array
    possible: Any


def whole_square(canaries: int) -> int:
    """Returns the largest square number that is at most `canaries` (>= 1)."""
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
    """Runs all updates once with the included canaries, and scores all canaries.

    Args:
        phases: the updates, with the claimed noise multipliers.
        included: `[m]` bool, the coins; m a square number.
        l2_norm_clip: C.
        noise_factor: actual over claimed noise; 0 for no noise.
        clipping: the clipping backend.
        make_optimizer: builds the private optimizer.
        key: key of the batches.
        done: called with 1 after every update.

    Returns:
        `[m]` float64 scores, higher for "in".
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
            seen = as_array(update(visit.rows, visit.mask))[visit.possible]
            scores[visit.possible] += evidence(seen, mechanism.noise_multiplier, q)
            done(1)
    return scores


def _canary_update(
    n: int, settings: UpdateSettings, make_optimizer: MakeOptimizer
) -> Callable[[Array, Array], tf.Tensor]:
    """Builds `(rows, mask)` -> `[n * n]`, the noised sum along each canary's direction, over C."""
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
    """Draws batches of the included canaries; each batch could hold any canary."""
    batches = PoissonBatches(
        np.flatnonzero(included), phase.mechanism.sampling_probability, key=key.derive("batches")
    )
    for step in range(phase.steps):
        epoch, within = divmod(step, batches.steps_per_epoch)
        rows, mask = batches.batch(epoch, within)
        yield Visit(rows, mask, slice(None))


def _shuffled_visits(phase: MechanismRun, included: Array, key: SecretKey) -> Iterator[Visit]:
    """Draws shuffled epochs in a public order; an excluded canary leaves an empty place."""
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


_SIDE, _CLASSES, _OTHERS = 6, 4, 3
_AT_ONCE = 250
# With and without the canary.
_BOTH = (True, False)


class SingleStep(NamedTuple):
    """Result of the repetitions.

    Attributes:
        mu_lower: lower bound on mu, >= 0.
        mu_claimed: 1/z.
        epsilon_lower: epsilon of `mu_lower` at the claim's delta.
        epsilon_claimed: epsilon of `mu_claimed` there: of this one update, not of the run.
        max_detectable: epsilon if every repetition had been classified correctly.
        true_positive_rate: rate among the counted repetitions with the canary.
        false_positive_rate: rate among those without it.
        runs: counted repetitions with the canary, and without.
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
    """Returns the number of repetitions that detects half the noise 19 times in 20, for small mu.

    A rate of 0.5 is known to within u sqrt(1/(4 n)) for a normal quantile u. The rates Phi(+-mu/2)
    with mu twice the claim 1/z then differ by more than the claim's where
    2 (u + 1.64) sqrt(1/(4 n)) / phi(0) <= 1/z.
    """
    quantile = stats.norm.isf(error / 2) + stats.norm.isf(0.05)
    return math.ceil((quantile * noise_multiplier / stats.norm.pdf(0.0)) ** 2)


def gaussian_bound(hits: int, alarms: int, runs: int, error: float) -> float:
    """Returns a lower bound on mu of a mu-Gaussian mechanism, from a test with a fixed threshold.

    `Phi^-1(TPR) - Phi^-1(FPR) <= mu` for every test (Dong, Roth and Su 2022, definition 2.6); both
    rates are replaced by Clopper and Pearson's (1934) exact bounds, each wrong with probability
    `error` / 2.

    Args:
        hits: true positives of `runs`.
        alarms: false positives of `runs`.
        runs: > 0.
        error: in (0, 1).
    """
    true_low = clopper_pearson(hits, runs, 1 - error)[0]
    false_high = clopper_pearson(alarms, runs, 1 - error)[1]
    return max(0.0, float(stats.norm.ppf(true_low) - stats.norm.ppf(false_high)))


def epsilon_of_mu(mu: float, delta: float) -> float:
    """Returns epsilon of a mu-Gaussian mechanism at `delta`; 0 for mu = 0."""
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

    The threshold is the midpoint of the means of a first part of `runs` / 4 repetitions with and
    without the canary; only the later repetitions count.

    Args:
        noise_multiplier: the claimed z, > 0.
        l2_norm_clip: C.
        delta: delta of the epsilons.
        runs: counted repetitions with the canary, and without, > 0.
        error: largest probability of a wrong bound.
        clipping: the clipping backend.
        make_optimizer: builds the private optimizer.
        key: key of the noise, for tests.
        seed: of weights and pictures.
        done: called with the number of repetitions done.
    """
    settings = UpdateSettings(l2_norm_clip, noise_multiplier, 1.0, clipping, key)
    seen = _repeater(settings, make_optimizer, seed)
    with_first, without_first = (_many(seen, there, max(1, runs // 4), done) for there in _BOTH)
    threshold = (with_first.mean() + without_first.mean()) / 2
    hits, alarms = (int((_many(seen, there, runs, done) > threshold).sum()) for there in _BOTH)
    lower, highest = (gaussian_bound(*c, runs, error) for c in ((hits, alarms), (runs, 0)))
    return SingleStep(
        mu_lower=lower,
        mu_claimed=1 / noise_multiplier,
        epsilon_lower=epsilon_of_mu(lower, delta),
        epsilon_claimed=epsilon_of_mu(1 / noise_multiplier, delta),
        max_detectable=epsilon_of_mu(highest, delta),
        true_positive_rate=hits / runs,
        false_positive_rate=alarms / runs,
        runs=runs,
    )


def _many(
    seen: Callable[[bool, int], Any], present: bool, runs: int, done: Callable[[int], None]
) -> Any:
    """Repeats the update `runs` times, in blocks."""
    parts = []
    for start in range(0, runs, _AT_ONCE):
        count = min(_AT_ONCE, runs - start)
        parts.append(seen(present, count))
        done(count)
    return np.concatenate(parts)


def _repeater(
    settings: UpdateSettings, make_optimizer: MakeOptimizer, seed: int
) -> Callable[[bool, int], Any]:
    """Builds `(with the canary, n)` -> `[n]` noised sums along its gradient, over the clip norm."""
    rng = np.random.default_rng(seed)
    model = _network(rng)
    rows = tf.constant(rng.normal(size=(1 + _OTHERS, _SIDE, _SIDE, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, _CLASSES, 1 + _OTHERS))
    direction, norm = _canary_direction(model, rows[:1], labels[:1])
    scale = STRENGTH * settings.l2_norm_clip / norm
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

        # Sequential, because each update reads the variable that it writes.
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
    """Returns the canary's gradient as a unit vector, and its norm, by plain differentiation."""
    weights = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        logits = model(row, training=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
    gradients = tape.gradient(loss, weights)
    norm = tf.linalg.global_norm(gradients)
    return [gradient / norm for gradient in gradients], norm
