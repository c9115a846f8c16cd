"""Feature inversion and retrieval, on features with a known content."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.inversion import (
    DecoderBudget,
    Embedding,
    epochs,
    fit_decoder,
    invert,
    nearest_is_own,
    nearest_is_same_person,
)

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


def test_invert_restores_pixels_in_features(images):
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


def test_invert_of_noise_is_no_better_than_the_mean_image(images, from_noise):
    # Never much better than always giving the mean image, and nobody is recognised.
    assert abs(from_noise["psnr_db"] - from_noise["mean_image"]["psnr_db"]) < 0.5
    low, high = from_noise["retrieval_rank1_ci95"]
    assert low <= from_noise["chance"] <= high
    assert from_noise["retrieval_of_originals"] == 1.0


def test_invert_mean_image_equals_numpy(images, from_noise):
    mean = images[0].mean(0) / 255
    errors = ((images[1] / 255 - mean) ** 2).mean((1, 2, 3))
    expected = (-10 * np.log10(errors)).mean()
    assert from_noise["mean_image"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_invert_with_a_released_restorer_restores_more(images):
    restored = tuple(part / np.float32(255) for part in images)
    found = invert(noise(TRAIN, 2), images[0], noise(TESTS, 3), images[1], restored=restored)
    assert found["psnr_db"] > 35


def test_invert_with_known_people_retrieves_people(images):
    # Two pictures of each of 40 people: the same one, a little darker.
    twins = np.concatenate([images[1][:40], (images[1][:40] * 0.9).astype(np.uint8)])
    person = np.tile(np.arange(40), 2)
    features = pixels_as_features(images[0]), pixels_as_features(twins)
    found = invert(features[0], images[0], features[1], twins, person=person)
    assert found["retrieval"] == "same_person" and found["retrieval_queries"] == 80
    assert found["chance"] == pytest.approx(1 / 79)
    assert found["retrieval_rank1"] > 0.9


def test_fit_decoder_starts_as_ridge_regression(images):
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


def test_fit_decoder_ignores_the_scale_of_features(images):
    # Noise of size 1 beside pixels of size 1e-5.
    features = [
        np.concatenate([noise(len(part), 9), pixels_as_features(part) * np.float32(1e-5)], -1)
        for part in images
    ]
    setting = DecoderBudget(width=4, blocks=1, epochs=0, rate=1e-3)
    restored = fit_decoder(features[0], images[0], setting, seed=0)(features[1])
    assert np.abs(restored - images[1] / 255).max() < 0.03


def test_fit_decoder_ignores_constant_features(images):
    constant = np.full((TRAIN, CELLS, CELLS, 2), 7.0, np.float32)
    setting = DecoderBudget(width=4, blocks=1, epochs=1, rate=1e-3)
    restore = fit_decoder(constant, images[0], setting, seed=0)
    moved = restore(constant[:4] + 1e-3)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved, restore(constant[:4]), atol=1e-6)


def test_fit_decoder_with_mismatched_shapes_is_refused(images):
    with pytest.raises(UsageError, match="fast or thorough"):
        invert(noise(TRAIN, 2), images[0], noise(TESTS, 3), images[1], setting="slow")
    with pytest.raises(ValueError, match="do not fit"):
        fit_decoder(noise(3, 0), images[0], DecoderBudget(4, 1, 1, 1e-3), 0)
    with pytest.raises(ValueError, match="do not tile"):
        odd = np.zeros((TRAIN, 5, 5, 2), np.float32)
        fit_decoder(odd, images[0], DecoderBudget(4, 1, 1, 1e-3), 0)


def cosines(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    return units[0] @ units[1].T


def test_nearest_is_own_equals_brute_force():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(60, 5))
    queries = gallery + rng.normal(size=gallery.shape)
    expected = (cosines(queries, gallery).argmax(1) == np.arange(60)).sum()
    assert nearest_is_own(queries, gallery) == (expected, 60, 1 / 60)
    assert 5 < expected < 55


def test_nearest_is_same_person_equals_brute_force():
    rng = np.random.default_rng(1)
    person = rng.integers(-1, 12, 80)
    gallery = rng.normal(size=(80, 6)) + 1.5 * rng.normal(size=(14, 6))[person + 1]
    queries = gallery + 0.5 * rng.normal(size=gallery.shape)
    hits, asked, chances = 0, 0, []
    for i in range(80):
        others = [j for j in range(80) if j != i and person[j] >= 0]
        same = [j for j in others if person[j] == person[i]]
        if person[i] < 0 or not same:
            continue
        best = max(others, key=lambda j: cosines(queries[i : i + 1], gallery[j : j + 1])[0, 0])
        hits, asked = hits + (person[best] == person[i]), asked + 1
        chances.append(len(same) / len(others))
    found = nearest_is_same_person(queries, gallery, person)
    assert (found.hits, found.queries) == (hits, asked) and 10 < hits < asked
    assert found.chance == pytest.approx(np.mean(chances))


def test_nearest_is_same_person_without_second_pictures_is_none():
    rows = np.eye(4)
    assert nearest_is_same_person(rows, rows, np.array([0, 1, 2, -1])) is None


def test_embedding_of_its_own_pictures_is_white():
    images = np.random.default_rng(2).random((300, 4, 4, 3)).astype(np.float32)
    found = Embedding(images, seed=0)(images)
    np.testing.assert_allclose(found.std(0, ddof=1), 1.0, rtol=1e-3)
    assert found.shape == (300, 48)
