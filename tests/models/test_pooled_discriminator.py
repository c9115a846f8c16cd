"""The pooled discriminator: shape, rows apart, and its private update, worked out by rows."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.models.discriminator import build_discriminator
from tf_mtl_privacy.privacy import DPSGD, assert_rows_independent
from tf_mtl_privacy.training import losses

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


def test_one_row_never_moves_another_rows_gradient():
    assert_rows_independent(pooled(), tf.constant(features()))


@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_its_private_update_is_the_sum_of_clipped_rows(clipping):
    x, labels, clip = features(), np.array([0, 3, 1, 4]), 0.3
    model = pooled()
    variables = [v.value for v in model.trainable_variables]
    rows = []
    for row in range(4):
        with tf.GradientTape() as tape:
            logits = model(x[row : row + 1], training=True)
            loss = tf.reduce_logsumexp(logits) - logits[0, labels[row]]
        rows.append([np.array(g, np.float64) for g in tape.gradient(loss, variables)])
    norms = [np.sqrt(sum((part**2).sum() for part in row)) for row in rows]
    assert max(norms) > clip
    factors = [min(1.0, clip / norm) for norm in norms]
    expected = [
        sum(f * row[k] for f, row in zip(factors, rows, strict=True)) / 4
        for k in range(len(variables))
    ]
    before = [v.numpy() for v in variables]
    optimizer = DPSGD(
        model,
        learning_rate=1.0,
        l2_norm_clip=clip,
        noise_multiplier=0.0,
        allow_zero_noise=True,
        clipping=clipping,
    )
    optimizer.minimize(tf.constant(x), lambda logits: losses.cross_entropy(logits, labels))
    for old, variable, step in zip(before, variables, expected, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), step, atol=2e-5)
