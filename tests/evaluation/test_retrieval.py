"""Nearest neighbours by hand and by brute force."""

import numpy as np
import pytest

from tf_mtl_privacy.evaluation.inversion import Embedding, nearest_is_own, nearest_is_same_person


def cosines(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    return units[0] @ units[1].T


def test_own_picture_by_brute_force():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(60, 5))
    queries = gallery + rng.normal(size=gallery.shape)
    expected = (cosines(queries, gallery).argmax(1) == np.arange(60)).sum()
    assert nearest_is_own(queries, gallery) == (expected, 60, 1 / 60)
    assert 5 < expected < 55


def test_same_person_by_brute_force():
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


def test_nobody_with_two_pictures_has_no_answer():
    rows = np.eye(4)
    assert nearest_is_same_person(rows, rows, np.array([0, 1, 2, -1])) is None


def test_the_embedding_is_white_on_what_it_was_fitted_to():
    images = np.random.default_rng(2).random((300, 4, 4, 3)).astype(np.float32)
    found = Embedding(images, seed=0)(images)
    np.testing.assert_allclose(found.std(0, ddof=1), 1.0, rtol=1e-3)
    assert found.shape == (300, 48)
