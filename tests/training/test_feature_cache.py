import errno
import os
import stat

import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.training.batches import FeatureCache
from tf_mtl_privacy.training.inference import Validator


@pytest.fixture(scope="module")
def dataset():
    generator = np.random.default_rng(3)
    return Dataset.from_arrays(
        generator.integers(0, 256, (11, 32, 32, 3)).astype(np.uint8),
        {"gender": np.array([0, 1, 1, 0, 1, -1, 0, 1, 1, 0, 0])},
        np.array([0, 1, 2, 0, -1, 2, 0, 0, 2, 0, 1]),
        split=np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
    )


@pytest.fixture(scope="module")
def bundle():
    return build_bundle(tiny_config(), {"gender": 2}, 3)


def features_of(bundle, dataset, rows):
    images = dataset.store.images(np.asarray(rows)).astype(np.float32) / 255
    return np.array(bundle.encoder(images, training=False))


def test_feature_cache_holds_features_and_is_private(tmp_path, bundle, dataset):
    rows = np.array([7, 2, 9, 0, 5])
    cache = FeatureCache(tmp_path / "features", bundle.encoder, dataset, rows, batch_size=2)
    np.testing.assert_allclose(
        cache.read(np.array([4, 0])), features_of(bundle, dataset, [5, 7]), atol=1e-5
    )
    assert stat.S_IMODE((tmp_path / "features").stat().st_mode) == 0o700
    cache.close()
    assert not (tmp_path / "features").exists()


def test_feature_cache_on_full_disk_raises_run_error(tmp_path, bundle, dataset, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"GiB of features .*No space left"):
        FeatureCache(tmp_path / "features", bundle.encoder, dataset, np.arange(4))


def test_feature_cache_interrupted_leaves_nothing(tmp_path, bundle, dataset):
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(
            tmp_path / "features",
            bundle.encoder,
            dataset,
            np.arange(4),
            batch_size=2,
            interrupted=lambda: True,
        )
    assert not (tmp_path / "features").exists()


def test_validator_figures_match_numpy(bundle, dataset):
    rows = dataset.rows["validation"]
    figures = Validator(bundle, dataset, rows, batch_size=4).measure(
        ["business", "discriminator", "restorer"]
    )
    features = features_of(bundle, dataset, rows)
    labels = dataset.labels_of(rows)
    gender = np.argmax(np.array(bundle.business(features)["gender"]), axis=1)
    known = labels.business["gender"] >= 0
    hits = gender[known] == labels.business["gender"][known]
    assert figures["gender_accuracy"] == pytest.approx(hits.mean())
    private = np.argmax(np.array(bundle.discriminator(features)), axis=1)
    recalls = [np.mean(private[labels.private == k] == k) for k in (0, 1, 2)]
    assert figures["privacy_balanced_accuracy"] == pytest.approx(np.mean(recalls))
    error = np.array(bundle.restorer(features)) - dataset.store.images(rows) / 255.0
    psnr = -10 * np.log10(np.mean(error**2, axis=(1, 2, 3)))
    assert figures["psnr_db"] == pytest.approx(psnr.mean(), abs=1e-3)
