"""The pooled discriminator: its weights, and what it makes of cells."""

import numpy as np

from tf_mtl_privacy.models.heads import build_discriminator

SHAPE = (8, 8, 6)


def pooled(units=16, shape=SHAPE, seed=0):
    return build_discriminator(shape, 5, shape="pooled", units=units, seed=seed)


def features(rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *SHAPE)).astype(np.float32)


def test_its_weights_worked_by_hand():
    # norm 2x6; reduce 6x8+8; twice 3x3 8->8 with bias and a norm of 2x8; attention 8x4+4; logits.
    expected = 12 + 56 + 2 * (9 * 64 + 8 + 16) + 36 + (4 * 8) * 5 + 5
    assert pooled().count_params() == expected
    # As many on a finer grid: no weight belongs to a place.
    assert pooled(shape=(16, 16, 6)).count_params() == expected
    assert pooled().output_shape == (None, 5)


def test_a_picture_s_scale_and_offset_are_not_seen():
    x, model = features(), pooled()
    np.testing.assert_allclose(model(x), model(3 * x + 2), atol=1e-3)


def test_attention_weighs_cells_to_a_mean_over_them():
    model = pooled()
    parts = [model.get_layer(name).output for name in ("attention_weights", "cells", "pool")]
    probe = type(model)(model.inputs[0], parts)
    weights, cells, mean = (np.array(part) for part in probe(features()))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(mean, np.einsum("bnh,bnc->bhc", weights, cells), atol=1e-5)
