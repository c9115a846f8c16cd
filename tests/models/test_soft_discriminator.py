"""The soft discriminator and the whitening in front of it, worked out with NumPy."""

import keras
import numpy as np
import pytest

from tf_mtl_privacy.models.heads import build_discriminator, whitening_of


def soft(shape=(8, 8, 6), whitened=False):
    return build_discriminator(shape, 5, shape="soft", units=16, whitened=whitened)


def features(rows=4):
    return np.random.default_rng(0).normal(size=(rows, 8, 8, 6)).astype(np.float32)


def test_its_weights_worked_by_hand():
    # 3x3 6->4 with bias and a norm of 2x4; 3x3 4->8 with bias and a norm of 2x8; logits.
    expected = (9 * 24 + 4 + 8) + (9 * 32 + 8 + 16) + (8 * 5 + 5)
    assert soft().count_params() == expected
    # As many on a finer grid: no weight belongs to a place.
    assert soft((16, 16, 6)).count_params() == expected
    assert soft(whitened=True).count_params() == expected + 6 + 6 * 6


def test_each_channel_is_weighed_by_the_softmax_of_itself_over_cells():
    model = soft()
    probe = keras.Model(model.inputs[0], [model.get_layer(n).output for n in ("relu2", "sum")])
    maps, found = (np.array(part, np.float64) for part in probe(features()))
    cells = maps.reshape(4, 64, 8)
    weights = np.exp(cells) / np.exp(cells).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, (weights * cells).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("shape", ["conv", "dense", "pooled", "soft"])
def test_whitening_changes_nothing_until_it_is_set_and_then_what_it_says(shape):
    def built(whitened):
        return build_discriminator((8, 8, 6), 5, shape=shape, units=16, whitened=whitened)

    x, plain, model = features(), built(False), built(True)
    np.testing.assert_allclose(model(x), plain(x), atol=1e-6)
    rng = np.random.default_rng(1)
    mean, matrix = rng.normal(size=6), rng.normal(size=(6, 6))
    layer = whitening_of(model)
    assert not layer.trainable_variables
    layer.set_weights([mean, matrix])
    changed = ((x - mean) @ matrix).astype(np.float32)
    np.testing.assert_allclose(model(x), plain(changed), atol=1e-4)
    assert whitening_of(plain) is None
