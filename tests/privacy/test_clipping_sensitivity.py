"""One row, however it is built, moves the clipped sum by at most the clip norm.

`layer_rules` tries each rule by itself; here are published constructions and a random search.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings, target
from hypothesis import strategies as st

from benchmarks.clipping_sensitivity import CLIP, TOLERANCE, Case, cases, clipped_sum, movement
from tests.privacy import test_rules
from tests.privacy.layer_rules import KINDS, PAIRS, LayerRuleTests, built, structured
from tests.privacy.networks import LAYERS
from tf_mtl_privacy.privacy.clipping import BACKENDS, make_backend
from tf_mtl_privacy.privacy.clipping.request import Request
from tf_mtl_privacy.privacy.tfp import dp_keras_optimizer

PUBLISHED = list(cases())
VARIANTS = [
    variant
    for tests in vars(test_rules).values()
    if isinstance(tests, type) and issubclass(tests, LayerRuleTests)
    for variant in tests.variants
]


@pytest.mark.parametrize("backend", ["ghost", "vectorized", "per_example"])
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case.name} {case.size:g}")
def test_published_constructions_stay_within_the_clip_norm(case, backend):
    if case.name.startswith("overflow") and backend == "per_example":
        with pytest.raises(tf.errors.InvalidArgumentError, match="no update was made"):
            movement(case, backend)
        return
    moved = movement(case, backend)
    assert moved <= 1 + TOLERANCE
    if not case.name.startswith("overflow"):
        assert np.isfinite(moved)


def test_cancelling_positions_move_the_sum_by_the_gradient_norm():
    case = next(case for case in PUBLISHED if case.name == "cancellation, Dense")
    rows, deltas = (part[0].astype(np.float64) for part in (case.x, case.deltas))
    assert movement(case, "ghost") == pytest.approx(np.linalg.norm(rows.T @ deltas), rel=1e-5)


@st.composite
def adversarial(draw):
    """A rule's layer, a batch and deltas: an adversarial row 0, ordinary ones and more like it."""
    _, make, shape = draw(st.sampled_from(VARIANTS))
    layer, out = built(make(), shape)
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    kinds, powers = st.sampled_from(KINDS), st.integers(-19, 18)
    pair = draw(st.sampled_from(PAIRS) | st.tuples(kinds, kinds))
    power = draw(st.integers(2, 18) | powers)
    rows = [(pair, power, draw(st.sampled_from([0, -power]) | powers))]
    for _ in range(draw(st.integers(1, 4))):
        rows.append((("random", "random"), 0, 0) if draw(st.booleans()) else rows[0])
    x = [structured(shape, kinds[0], 10.0**power, generator) for kinds, power, _ in rows]
    deltas = [structured(out, kinds[1], 10.0**power, generator) for kinds, _, power in rows]
    return Case("random", 0.0, layer, np.stack(x), np.stack(deltas))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(adversarial(), st.sampled_from(["ghost", "ghost", "ghost", "vectorized"]))
@example(PUBLISHED[4], "ghost")
@example(PUBLISHED[10], "ghost")
@pytest.mark.slow
def test_no_row_moves_the_sum_by_more_than_the_clip_norm(case, backend):
    moved = movement(case, backend)
    target(math.log10(max(moved, 1e-9)))
    assert moved <= 1 + TOLERANCE


@pytest.mark.parametrize("places", [16, 32])
def test_batch_of_fixed_places_keeps_the_bound_for_rounding_errors(places):
    """Gradients that are rounding errors alone; without the mask 16 rows move by 19 C."""
    generator = np.random.default_rng(3)
    deltas, weights = generator.normal(size=300), generator.normal(size=(16, 300))
    weights -= np.outer(weights @ deltas / (deltas @ deltas), deltas)
    first, last = (LAYERS.Dense(size, use_bias=False) for size in (16, 300))
    model = keras.Sequential([keras.Input((4,)), first, last])
    rows = (1e9 * generator.normal(size=(places, 4))).astype(np.float32)
    factors = tf.constant(deltas, tf.float32)
    clip = make_backend("ghost", model, dp_keras_optimizer("sgd", CLIP, learning_rate=1.0))
    first.kernel.assign(np.zeros((4, 16)))
    last.kernel.assign(weights)

    def total(kept):
        x = np.zeros_like(rows)
        x[: len(kept)] = rows[kept]
        mask = tf.constant(np.arange(places) < len(kept))
        variables = [variable.value for variable in model.trainable_variables]
        loss = lambda outputs: tf.linalg.matvec(outputs, factors)  # noqa: E731
        sums = clip(Request(model, variables, tf.constant(x), loss, mask, CLIP, True)).sums
        return np.concatenate([np.ravel(part) for part in sums])

    everyone = np.arange(places)
    for row in (0, 3, places - 1):
        moved = np.linalg.norm(total(everyone) - total(np.delete(everyone, row)))
        assert 0.9 < moved <= 1 + TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_are_not_rounded_to_float32(backend):
    """Also of replicas: rounding the sums of 8 times 4,096 rows would move them by 0.004 C."""
    case = next(case for case in cases() if case.name.startswith("partial sums"))
    total = clipped_sum(case, np.ones(len(case.x), bool), backend)
    assert total.dtype == np.float64 and (total != total.astype(np.float32)).any()
