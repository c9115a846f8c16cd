"""Base class for tests of a layer rule of ghost clipping.

A subclass names layers of one class; it then gets a comparison with a loop over rows in float64,
masked rows, batches of unknown size in chunks, and rows built to break the bound on the sum:

    class TestScale(LayerRuleTests):
        variants = (("positions", Scale, (4, 6)),)
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.clipping_sensitivity import CLIP, TOLERANCE, Case, clipped_sum, movement
from tests.privacy.networks import flat
from tf_mtl_privacy.privacy.clipping import contribution

KINDS = ("random", "same", "cancelling", "almost cancelling", "one number", "half zero")
# Kinds of inputs and deltas whose products cancel over positions.
PAIRS = (("almost cancelling", "same"), ("cancelling", "same"), ("same", "cancelling"))


def structured(shape, kind, scale, generator):
    """An array `shape` of one kind, largest entries about `scale`."""
    value = generator.normal(size=shape)
    rows = value.reshape(-1, shape[-1]) if len(shape) > 1 else value.reshape(-1, 1)
    half = len(rows) // 2
    if kind in ("cancelling", "almost cancelling") and half:
        rows[:half], rows[half : 2 * half], rows[2 * half :] = rows[0], -rows[0], 0
        if kind == "almost cancelling":
            noise = generator.normal(size=rows.shape[1])
            rows[half] += 10 ** generator.uniform(-5, -2) * noise
    elif kind == "one number":
        rows[1:] = 0
    elif kind == "same":
        rows[:] = rows[0]
    elif kind == "half zero":
        rows[:half] = 0
    return (rows.reshape(shape) * scale).astype(np.float32)


def built(layer, shape):
    """A layer, and the shape of one row of its outputs."""
    return layer, tuple(layer(np.zeros((1, *shape), np.float32)).shape[1:])


def float64_gradient(layer, x, delta):
    """The gradient of one row in float64, by Keras' own layer."""
    with keras.device("cpu"):
        copy = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
        copy.build((1, *x.shape))
    for one, other in zip(copy.weights, layer.weights, strict=True):
        one.assign(other)
    raw = [variable.value for variable in copy.trainable_variables]
    with tf.GradientTape() as tape:
        output = copy(x[np.newaxis].astype(np.float64))
    return flat(tape.gradient(output, raw, delta[np.newaxis].astype(np.float64)))


class LayerRuleTests:
    """Base class of the tests of one layer rule; see the module.

    Attributes:
        variants: (name, function that makes the layer, shape of one row of its inputs) each.
        sizes: of the inputs of four rows; their deltas are inversely large.
    """

    variants = ()
    sizes = (1.0, 1e-15, 1e15, 1e12)

    def pytest_generate_tests(self, metafunc):
        if "variant" in metafunc.fixturenames:
            ids = [name for name, _, _ in metafunc.cls.variants]
            metafunc.parametrize("variant", metafunc.cls.variants, ids=ids)

    def case(self, variant, sizes=(1.0,) * 4, kinds=(("random", "random"),) * 4, deltas=None):
        name, make, shape = variant
        layer, out = built(make(), shape)
        generator = np.random.default_rng(0)
        deltas = deltas or [0.3 / size for size in sizes]
        x = [structured(shape, k[0], n, generator) for k, n in zip(kinds, sizes, strict=True)]
        d = [structured(out, k[1], n, generator) for k, n in zip(kinds, deltas, strict=True)]
        return Case(name, 1.0, layer, np.stack(x), np.stack(d))

    def by_loop(self, case, mask):
        total = 0.0
        for row, delta in zip(case.x[mask], case.deltas[mask], strict=True):
            gradient = float64_gradient(case.layer, row, delta)
            total += gradient / max(1.0, np.linalg.norm(gradient) / CLIP)
        return total

    def test_sum_equals_a_float64_loop_over_rows(self, variant):
        case, mask = self.case(variant, self.sizes), np.array([True, True, True, True])
        expected = self.by_loop(case, mask)
        assert np.abs(expected).max() > 1e-2
        for backend in ("ghost", "vectorized"):
            result = clipped_sum(case, mask, backend)
            np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=backend)

    def test_masked_and_infinite_rows_add_nothing(self, variant):
        case, mask = self.case(variant), np.array([True, False, True, False])
        expected = self.by_loop(case, mask)
        # A masked row may hold anything; a row that is not finite is left out without a mask.
        case.x[1] = np.nan
        np.testing.assert_allclose(clipped_sum(case, mask, "ghost"), expected, atol=1e-5)
        case.x[3] = np.inf
        everyone = np.array([True, False, True, True])
        np.testing.assert_allclose(clipped_sum(case, everyone, "ghost"), expected, atol=1e-5)

    def test_chunks_give_the_sum_of_the_whole_batch(self, variant, monkeypatch):
        case, mask = self.case(variant), np.ones(4, bool)
        whole = clipped_sum(case, mask, "ghost")
        floats = 8 * max(case.x[0].size, case.deltas[0].size)
        monkeypatch.setattr(contribution, "_FLOATS_AT_ONCE", floats)
        np.testing.assert_allclose(clipped_sum(case, mask, "ghost"), whole, atol=1e-6)

    @pytest.mark.parametrize(("kinds", "power"), tuple(zip(PAIRS, (15, 6, 2), strict=True)))
    def test_no_row_moves_the_sum_by_more_than_the_clip_norm(self, variant, kinds, power):
        ordinary, size = ("random", "random"), 10.0**power
        case = self.case(variant, [size, 1.0, size], (kinds, ordinary, kinds), [1.0, 1.0, 1 / size])
        assert movement(case, "ghost") <= 1 + TOLERANCE
