"""Cells that the mask tries: 0 or 1, with the gradient of a relaxed draw."""

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.removal.mask import tried_cells


def _uniform(shape, seed):
    return tf.random.stateless_uniform(shape, seed, 1e-4, 1.0 - 1e-4).numpy().astype(np.float64)


def test_the_gradient_of_a_draw_by_hand():
    """0 or 1 forwards; backwards the slope of the relaxed draw, s (1 - s) / temperature."""
    odds = tf.constant([[-2.0, 0.5], [1.0, 3.0]])[tf.newaxis, ..., tf.newaxis]
    seed = tf.constant([3, 4])
    with tf.GradientTape() as tape:
        tape.watch(odds)
        cells = tried_cells(odds, seed)
        weighted = tf.reduce_sum(cells * tf.constant([[1.0, 2.0], [3.0, 4.0]])[..., tf.newaxis])
    uniform = _uniform((1, 2, 2, 1), [3, 4])
    scale = tf.random.stateless_uniform((1, 1, 1, 1), [3, 4 + (1 << 30)]).numpy()
    moved = odds.numpy() + scale * np.log(uniform / (1.0 - uniform))
    np.testing.assert_array_equal(cells, (moved > 0).astype(np.float32))
    soft = 1.0 / (1.0 + np.exp(-1.5 * moved))
    expected = np.array([[1.0, 2.0], [3.0, 4.0]])[np.newaxis, ..., np.newaxis]
    expected = expected * 1.5 * soft * (1.0 - soft)
    np.testing.assert_allclose(tape.gradient(weighted, odds), expected, rtol=1e-4)


def test_draws_follow_from_the_seed_and_the_odds():
    odds = tf.zeros((200, 8, 8, 1))
    first, again = (tried_cells(odds, tf.constant([1, 2])).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {0.0, 1.0}
    assert np.mean(first != tried_cells(odds, tf.constant([1, 3])).numpy()) > 0.3
    # Even odds are covered half of the time: 12,800 draws, five standard errors.
    assert abs(first.mean() - 0.5) < 5 * 0.5 / np.sqrt(first.size)
    assert tried_cells(odds - 50.0, tf.constant([1, 2])).numpy().max() == 0.0
    assert tried_cells(odds + 50.0, tf.constant([1, 2])).numpy().min() == 1.0
    # Log-odds of 2: without noise always, with all of it in 88 % of draws; in between here.
    assert 0.88 < tried_cells(odds + 2.0, tf.constant([1, 2])).numpy().mean() < 1.0
