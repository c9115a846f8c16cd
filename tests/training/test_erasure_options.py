"""The erasure's rank and whitening reach the layer that erases."""

import dataclasses

import numpy as np
import pytest

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.removal.erasure import ErasureFitting, erasure_of


def projection(**options):
    """The fitted P of an untrained encoder, `[d, d]`."""
    removal = RemovalConfig(erasure="leace", erasure_labels="train", **options)
    config, data = dataclasses.replace(tiny_config(), removal=removal), tiny_arrays(60)
    bundle = build_bundle(config, {"gender": 2}, len(data.private_classes))
    layer = erasure_of(bundle.encoder)
    assert not np.any(layer.right.numpy())
    ErasureFitting(config, data, bundle.encoder).refit()
    return layer.right.numpy() @ layer.left.numpy()


@pytest.mark.parametrize(("rank", "expected"), [(0, 2), (1, 1), (2, 2), (9, 2)])
def test_the_rank(rank, expected):
    found = projection(erasure_rank=rank)
    assert np.linalg.matrix_rank(found, tol=1e-4) == expected
    np.testing.assert_allclose(found @ found, found, atol=1e-4)


def test_without_components_it_erases_at_right_angles():
    at_right_angles, least_change = projection(erasure_components=0), projection()
    np.testing.assert_allclose(at_right_angles, at_right_angles.T, atol=1e-5)
    assert np.abs(least_change - least_change.T).max() > 1e-3
