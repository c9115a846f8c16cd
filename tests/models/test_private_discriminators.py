"""Discriminators whose inputs are whitened: rows apart, and the private update, worked by rows."""

import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import sgd_update
from tf_mtl_privacy.models import losses
from tf_mtl_privacy.models.heads import build_discriminator, whitening_of
from tf_mtl_privacy.privacy import assert_rows_independent

CELLS = (8, 8, 6)
SHAPES = pytest.mark.parametrize("shape", ["conv", "dense", "pooled", "soft"])


def whitened(shape):
    """A discriminator whose whitening does something."""
    model = build_discriminator(CELLS, 5, shape=shape, units=16, whitened=True)
    rng = np.random.default_rng(1)
    whitening_of(model).set_weights([rng.normal(size=6), rng.normal(size=(6, 6))])
    return model


def features(rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *CELLS)).astype(np.float32)


@SHAPES
def test_one_row_never_moves_another_rows_gradient(shape):
    assert_rows_independent(whitened(shape), tf.constant(features()))


@SHAPES
@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_the_private_update_is_the_sum_of_clipped_rows(shape, clipping):
    x, labels, clip = features(), np.array([0, 3, 1, 4]), 0.3
    model = whitened(shape)
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
    found, _ = sgd_update(
        model,
        tf.constant(x),
        lambda logits: losses.cross_entropy(logits, labels),
        clip,
        traced=True,
        clipping=clipping,
    )
    for step, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(step, wanted, atol=2e-5)
