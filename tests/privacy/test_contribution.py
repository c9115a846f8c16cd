"""Norms and weighted sums of per-example gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.privacy.clipping import contribution
from tf_mtl_privacy.privacy.clipping.contribution import prefers_gram


def test_gram_norm_is_never_below_the_exact_one():
    generator = np.random.default_rng(1)
    for power in range(0, 19, 3):
        left = generator.normal(size=(20, 4, 16)) * 10.0**power
        left[:, 2:] = -left[:, :2] * (1 + 10.0 ** -generator.uniform(2, 9, (20, 1, 1)))
        right = generator.normal(size=(20, 1, 16)) * np.ones((1, 4, 1))
        left, right = left.astype(np.float32), right.astype(np.float32)
        exact = np.einsum("btn,btm->bnm", left.astype(np.longdouble), right.astype(np.longdouble))
        norms = contribution._gram_norms(tf.constant(left), tf.constant(right)).numpy()
        assert (norms >= (exact**2).sum(axis=(1, 2)) * (1 - 1e-10)).all()


def test_gram_norm_of_ordinary_rows_is_exact_to_a_millionth():
    generator = np.random.default_rng(2)
    left = generator.normal(size=(16, 8, 64)).astype(np.float32)
    right = generator.normal(size=(16, 8, 64)).astype(np.float32)
    assert prefers_gram(8, 64, 64)
    exact = np.einsum("btn,btm->bnm", left.astype(np.float64), right.astype(np.float64))
    exact = (exact**2).sum(axis=(1, 2))
    norms = contribution._gram_norms(tf.constant(left), tf.constant(right)).numpy()
    assert np.abs(norms / exact - 1).max() < 1e-6


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_chunks_of_sums_count_each_row_once(monkeypatch, rows):
    monkeypatch.setattr(contribution, "_FLOATS_AT_ONCE", 12)
    values = np.arange(1.0, rows + 1)
    weights = tf.constant(np.ones(rows))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
    def total(parts):
        return contribution.sum_by_chunks(
            lambda own, part: tf.reduce_sum(own * part), weights, [parts], 4, ()
        )

    assert float(total(values)) == values.sum()
    columns = contribution._sum_of_rows(
        tf.constant(values), tf.constant(np.ones((rows, 2**13 + 5), np.float32))
    )
    np.testing.assert_array_equal(columns, np.full(2**13 + 5, values.sum()))
