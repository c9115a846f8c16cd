"""The erasure layer: identity at first, then as set; saved with the encoder."""

import dataclasses

import numpy as np
import pytest

from tests.models.run_folders import TASKS, config_of
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.models.bundle import build_bundle, load_bundle_weights, save_bundle
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.removal.erasure import Erasure, before_erasure


def bundle_of(classes=8, seed=1):
    removal = RemovalConfig(erasure="leace", erasure_labels="train")
    return build_bundle(dataclasses.replace(config_of(seed=seed), removal=removal), TASKS, classes)


def test_erasure_starts_as_identity_without_trained_weights():
    encoder = bundle_of().encoder
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(encoder(images), before_erasure(encoder)(images))
    plain = build_bundle(config_of(), TASKS, 8).encoder
    names = [variable.path for variable in plain.trainable_variables]
    assert [variable.path for variable in encoder.trainable_variables] == names


@pytest.mark.parametrize(("classes", "rank"), [(2, 1), (8, 7)])
def test_erasure_rank_is_at_most_classes_minus_one(classes, rank):
    layer = first_layer(bundle_of(classes).encoder, Erasure)
    size = 8 * 8 * 4
    assert [weight.shape for weight in layer.weights] == [(size,), (size, rank), (rank, size)]


def test_erasure_removes_set_directions():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 2, 3, 2)).astype(np.float32)
    mean, right, left = rng.normal(size=12), rng.normal(size=(12, 2)), rng.normal(size=(2, 12))
    layer = Erasure(2)
    layer.build(rows.shape)
    layer.set_weights([mean, right, left])
    flat = rows.reshape(5, 12)
    expected = flat - (flat - mean) @ right @ left
    np.testing.assert_allclose(np.array(layer(rows)).reshape(5, 12), expected, atol=1e-4)


def test_bundle_saves_erasure(tmp_path):
    bundle, other = bundle_of(), bundle_of(seed=2)
    rng = np.random.default_rng(0)
    layer = first_layer(bundle.encoder, Erasure)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    save_bundle(bundle, tmp_path)
    load_bundle_weights(other, tmp_path)
    images = rng.random((2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(bundle.encoder(images), other.encoder(images))


def test_before_erasure_without_erasure_is_refused():
    plain = build_bundle(config_of(), TASKS, 8).encoder
    assert first_layer(plain, Erasure) is None
    with pytest.raises(ValueError, match="erasure layer"):
        before_erasure(plain)
