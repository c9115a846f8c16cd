"""Discriminators whose inputs are whitened: rows apart, and the private update, worked by rows."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.models.discriminator import build_discriminator
from tf_mtl_privacy.models.whitening import whitening_of
from tf_mtl_privacy.privacy import DPSGD, assert_rows_independent
from tf_mtl_privacy.training import losses

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
    before = [v.numpy() for v in variables]
    optimizer = DPSGD(
        model,
        learning_rate=1.0,
        l2_norm_clip=clip,
        noise_multiplier=0.0,
        allow_zero_noise=True,
        clipping=clipping,
    )
    # As training does it, in a graph.
    update = tf.function(
        lambda x: optimizer.minimize(x, lambda logits: losses.cross_entropy(logits, labels)),
        autograph=False,
    )
    update(tf.constant(x))
    for old, variable, step in zip(before, variables, expected, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), step, atol=2e-5)
