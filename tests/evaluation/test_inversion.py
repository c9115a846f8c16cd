"""Inversion finds what is there, finds nothing where nothing is, and counts as NumPy does."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.inversion import DecoderBudget, epochs, fit_decoder, invert

SIZE, STRIDE, TRAIN, TESTS = 16, 4, 300, 80
CELLS = SIZE // STRIDE


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth random colours: `[count, 16, 16, 3]` uint8."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (count, 4, 4, 3))
    fine = coarse.repeat(4, 1).repeat(4, 2)
    return ((fine + np.roll(fine, 2, 1) + np.roll(fine, 2, 2)) / 3).astype(np.uint8)


def pixels_as_features(images: np.ndarray) -> np.ndarray:
    cells = images.reshape(-1, CELLS, STRIDE, CELLS, STRIDE, 3).transpose(0, 1, 3, 2, 4, 5)
    return (cells.reshape(-1, CELLS, CELLS, 3 * STRIDE**2) / 64.0).astype(np.float32)


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, CELLS, CELLS, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    return pictures(TRAIN, 0), pictures(TESTS, 1)


@pytest.fixture(scope="module")
def from_noise(images):
    return invert(noise(TRAIN, 2), images[0], noise(TESTS, 3), images[1])


def test_pixels_in_features_come_back(images):
    counted = []
    found = invert(
        pixels_as_features(images[0]),
        images[0],
        pixels_as_features(images[1]),
        images[1],
        done=counted.append,
    )
    assert found["psnr_db"] > 38 and found["ssim"] > 0.98
    assert found["retrieval_rank1"] == found["retrieval_of_originals"] == 1.0
    assert found["retrieval_rank1_ci95"][0] > 0.9 and found["chance"] == 1 / TESTS
    assert (found["images"], found["attacker_images"]) == (TESTS, TRAIN)
    assert sum(counted) == epochs("fast")
    assert json.loads(json.dumps(found)) == found


def test_from_noise_there_is_nothing_to_restore(images, from_noise):
    # Never much better than always giving the mean image, and nobody is recognised.
    assert abs(from_noise["psnr_db"] - from_noise["mean_image"]["psnr_db"]) < 0.5
    low, high = from_noise["retrieval_rank1_ci95"]
    assert low <= from_noise["chance"] <= high
    assert from_noise["retrieval_of_originals"] == 1.0


def test_the_mean_image_s_figures_by_numpy(images, from_noise):
    mean = images[0].mean(0) / 255
    errors = ((images[1] / 255 - mean) ** 2).mean((1, 2, 3))
    expected = (-10 * np.log10(errors)).mean()
    assert from_noise["mean_image"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_a_released_restorer_helps_the_attacker(images):
    restored = tuple(part / np.float32(255) for part in images)
    found = invert(noise(TRAIN, 2), images[0], noise(TESTS, 3), images[1], restored=restored)
    assert found["psnr_db"] > 35


def test_people_are_looked_for_where_they_are_known(images):
    # Two pictures of each of 40 people: the same one, a little darker.
    twins = np.concatenate([images[1][:40], (images[1][:40] * 0.9).astype(np.uint8)])
    person = np.tile(np.arange(40), 2)
    features = pixels_as_features(images[0]), pixels_as_features(twins)
    found = invert(features[0], images[0], features[1], twins, person=person)
    assert found["retrieval"] == "same_person" and found["retrieval_queries"] == 80
    assert found["chance"] == pytest.approx(1 / 79)
    assert found["retrieval_rank1"] > 0.9


def test_the_linear_start_is_ridge_regression(images):
    features = pixels_as_features(images[0])[..., ::5] + noise(TRAIN, 4)[..., :1]
    setting = DecoderBudget(width=4, blocks=1, epochs=0, rate=1e-3)
    restore = fit_decoder(features, images[0], setting, seed=5)
    # The rows that the decoder holds out, drawn as it draws them.
    train = np.random.default_rng(5).permutation(TRAIN)[TRAIN // 10 :]
    x = features[train].reshape(-1, features.shape[-1]).astype(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    y = pixels_as_features(images[0][train]).reshape(len(x), -1) * 64.0 / 255
    model = Ridge(alpha=1e-3 * len(x)).fit(x, y)
    expected = model.predict(x).clip(0, 1)
    found = restore(features[train]).reshape(-1, CELLS, STRIDE, CELLS, STRIDE, 3)
    found = found.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), -1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_features_cannot_hide_by_being_small(images):
    # Noise of size 1 beside pixels of size 1e-5.
    features = [
        np.concatenate([noise(len(part), 9), pixels_as_features(part) * np.float32(1e-5)], -1)
        for part in images
    ]
    setting = DecoderBudget(width=4, blocks=1, epochs=0, rate=1e-3)
    restored = fit_decoder(features[0], images[0], setting, seed=0)(features[1])
    assert np.abs(restored - images[1] / 255).max() < 0.03


def test_a_constant_feature_changes_nothing(images):
    constant = np.full((TRAIN, CELLS, CELLS, 2), 7.0, np.float32)
    setting = DecoderBudget(width=4, blocks=1, epochs=1, rate=1e-3)
    restore = fit_decoder(constant, images[0], setting, seed=0)
    moved = restore(constant[:4] + 1e-3)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved, restore(constant[:4]), atol=1e-6)


def test_what_does_not_fit_is_refused(images):
    with pytest.raises(UsageError, match="fast or thorough"):
        invert(noise(TRAIN, 2), images[0], noise(TESTS, 3), images[1], setting="slow")
    with pytest.raises(ValueError, match="do not fit"):
        fit_decoder(noise(3, 0), images[0], DecoderBudget(4, 1, 1, 1e-3), 0)
    with pytest.raises(ValueError, match="do not tile"):
        odd = np.zeros((TRAIN, 5, 5, 2), np.float32)
        fit_decoder(odd, images[0], DecoderBudget(4, 1, 1, 1e-3), 0)
