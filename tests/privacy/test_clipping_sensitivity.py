"""One row, however it is built, moves the clipped sum by at most the clip norm."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings, target
from hypothesis import strategies as st

from benchmarks.clipping_sensitivity import CLIP, TOLERANCE, Case, cases, clipped_sum, movement
from tests.privacy.networks import LAYERS
from tf_mtl_privacy.privacy.clipping import contribution, request
from tf_mtl_privacy.privacy.clipping.backends import BACKENDS, make_backend
from tf_mtl_privacy.privacy.clipping.contribution import prefers_gram
from tf_mtl_privacy.privacy.clipping.request import Request
from tf_mtl_privacy.privacy.tfp import dp_keras_optimizer

PUBLISHED = list(cases())
# Layer, and the shape of one row of its inputs; which way ghost takes the norm is checked below.
RULES = {
    "Dense": (lambda: LAYERS.Dense(5), (7,)),
    "Dense, no bias": (lambda: LAYERS.Dense(5, use_bias=False), (7,)),
    "Dense on positions, Gram": (lambda: LAYERS.Dense(32), (2, 32)),
    "Dense on positions, instantiated": (lambda: LAYERS.Dense(2), (24, 3)),
    "Conv2D, Gram": (lambda: LAYERS.Conv2D(24, 3), (4, 3, 16)),
    "Conv2D, instantiated": (lambda: LAYERS.Conv2D(2, 2, padding="same"), (6, 6, 2)),
    "Conv2D 1x1": (lambda: LAYERS.Conv2D(32, 1, use_bias=False), (1, 2, 32)),
    "Conv2D, stride": (lambda: LAYERS.Conv2D(3, 3, strides=2), (7, 7, 2)),
    "DepthwiseConv2D": (lambda: LAYERS.DepthwiseConv2D(2, depth_multiplier=2), (4, 4, 2)),
    "DepthwiseConv2D, stride, dilation": (
        lambda: LAYERS.DepthwiseConv2D(2, strides=2, dilation_rate=2),
        (7, 7, 2),
    ),
    "GroupNormalization": (lambda: LAYERS.GroupNormalization(2), (4, 4, 6)),
    "LayerNormalization": (lambda: LAYERS.LayerNormalization(), (5, 6)),
}
SHAPES = ("random", "same", "cancelling", "almost cancelling", "one number", "half zero")
# Of inputs and deltas together: their products cancel over positions.
PAIRS = [("almost cancelling", "same"), ("cancelling", "same"), ("same", "cancelling")]


def ghost_gradient(layer, x, deltas):
    """The gradient of one row in float64, with the layer's own formula, by Keras."""
    with keras.device("cpu"):
        copy = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
        copy.build((1, *x.shape))
    for one, other in zip(copy.weights, layer.weights, strict=True):
        one.assign(other)
    raw = [variable.value for variable in copy.trainable_variables]
    with tf.GradientTape() as tape:
        output = copy(x[np.newaxis].astype(np.float64))
    found = tape.gradient(output, raw, deltas[np.newaxis].astype(np.float64))
    return np.concatenate([np.ravel(gradient) for gradient in found])


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


def test_cancelling_positions_move_the_sum_by_the_gradients_own_norm():
    case = next(case for case in PUBLISHED if case.name == "cancellation, Dense")
    rows, deltas = (part[0].astype(np.float64) for part in (case.x, case.deltas))
    assert movement(case, "ghost") == pytest.approx(np.linalg.norm(rows.T @ deltas), rel=1e-5)


def structured(shape, kind, scale, generator):
    """An array `shape` of one structure, largest entries about `scale`."""
    value = generator.normal(size=shape)
    flat = value.reshape(-1, shape[-1]) if len(shape) > 1 else value.reshape(-1, 1)
    half = len(flat) // 2
    if kind in ("cancelling", "almost cancelling") and half:
        flat[:half], flat[half : 2 * half], flat[2 * half :] = flat[0], -flat[0], 0
        if kind == "almost cancelling":
            noise = generator.normal(size=flat.shape[1])
            flat[half] += 10 ** generator.uniform(-5, -2) * noise
    elif kind == "one number":
        flat[1:] = 0
    elif kind == "same":
        flat[:] = flat[0]
    elif kind == "half zero":
        flat[:half] = 0
    return (flat.reshape(shape) * scale).astype(np.float32)


@st.composite
def adversarial(draw):
    """A rule's layer, a batch and deltas: an adversarial row 0, ordinary ones and more like it."""
    make, shape = RULES[draw(st.sampled_from(sorted(RULES)))]
    layer = make()
    layer.build((None, *shape))
    out = tuple(layer.compute_output_shape((1, *shape)))[1:]
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    kinds, powers = st.sampled_from(SHAPES), st.integers(-19, 18)
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


@pytest.mark.parametrize("rule", RULES)
def test_sum_equals_a_float64_loop_over_rows_for_factors_of_any_size(rule):
    make, shape = RULES[rule]
    layer, generator = make(), np.random.default_rng(0)
    layer.build((None, *shape))
    out = tuple(layer.compute_output_shape((1, *shape)))[1:]
    # Normalisation brings x to size 1 before its weights meet it; large x cost it digits only.
    sizes = [1.0, 1.0, 1.0, 1.0] if "Norm" in rule else [1.0, 1e-15, 1e15, 1e12]
    x = np.stack([structured(shape, "random", size, generator) for size in sizes])
    deltas = np.stack([structured(out, "random", 0.3 / size, generator) for size in sizes])
    case = Case(rule, 1.0, layer, x, deltas)
    expected = 0.0
    for row, delta in zip(x, deltas, strict=True):
        gradient = ghost_gradient(layer, row, delta)
        expected += gradient / max(1.0, np.linalg.norm(gradient) / CLIP)
    for backend in ("ghost", "vectorized"):
        found = clipped_sum(case, np.ones(len(x), bool), backend)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=backend)


def test_rules_cover_both_ways_to_a_norm():
    assert prefers_gram(2, 32, 32) and prefers_gram(2, 144, 24)
    assert not prefers_gram(24, 3, 2) and not prefers_gram(36, 8, 2)


def test_gram_norm_is_never_below_the_exact_one():
    generator = np.random.default_rng(1)
    for power in range(0, 19, 3):
        left = generator.normal(size=(20, 4, 16)) * 10.0**power
        left[:, 2:] = -left[:, :2] * (1 + 10.0 ** -generator.uniform(2, 9, (20, 1, 1)))
        right = generator.normal(size=(20, 1, 16)) * np.ones((1, 4, 1))
        left, right = left.astype(np.float32), right.astype(np.float32)
        exact = np.einsum("btn,btm->bnm", left.astype(np.longdouble), right.astype(np.longdouble))
        found = contribution._gram_norms(tf.constant(left), tf.constant(right)).numpy()
        assert (found >= (exact**2).sum(axis=(1, 2)) * (1 - 1e-10)).all()


def test_ordinary_rows_are_clipped_as_before():
    generator = np.random.default_rng(2)
    left = generator.normal(size=(16, 8, 64)).astype(np.float32)
    right = generator.normal(size=(16, 8, 64)).astype(np.float32)
    assert prefers_gram(8, 64, 64)
    exact = np.einsum("btn,btm->bnm", left.astype(np.float64), right.astype(np.float64))
    exact = (exact**2).sum(axis=(1, 2))
    found = contribution.product_norms(tf.constant(left), tf.constant(right)).numpy()
    assert np.abs(found / exact - 1).max() < 1e-6


@pytest.mark.parametrize("places", [16, 32])
def test_a_batch_of_fixed_places_does_not_change_its_kernels(places):
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


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_chunks_of_sums_count_each_row_once(monkeypatch, rows):
    monkeypatch.setattr(request, "_FLOATS_AT_ONCE", 12)
    values = np.arange(1.0, rows + 1)
    weights = tf.constant(np.ones(rows))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
    def total(parts):
        return request.sum_by_chunks(
            lambda own, part: tf.reduce_sum(own * part), weights, [parts], 4, ()
        )

    assert float(total(values)) == values.sum()
    found = contribution._sum_of_rows(
        tf.constant(values), tf.constant(np.ones((rows, 2**13 + 5), np.float32))
    )
    np.testing.assert_array_equal(found, np.full(2**13 + 5, values.sum()))
