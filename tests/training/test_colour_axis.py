"""The axis of colour that says the private label: found where it was planted."""

import numpy as np
import pytest

from tf_mtl_privacy.removal.mask_training import colour_axis

SIZE, CLASSES = 12, 4
PLANTED = np.array([0.48, -0.76, 0.44])
PLANTED /= np.linalg.norm(PLANTED)


def planted(rows=4000, strength=20.0, seed=0):
    """Pictures of correlated noise in which a class moves some places along `PLANTED`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    mixing = np.array([[30.0, 10, 0], [10, 20, 5], [0, 5, 15]])
    images = 128 + rng.normal(0, 1, (rows, SIZE, SIZE, 3)) @ mixing
    pattern = rng.normal(0, 1, (CLASSES, 3, 3, 1)) * PLANTED * strength
    images[:, 4:7, 5:8] += pattern[labels]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels


def in_parts(images, labels, size=700):
    return [(images[k : k + size], labels[k : k + size]) for k in range(0, len(labels), size)]


def degrees(axis, other=PLANTED):
    return np.degrees(np.arccos(min(1.0, abs(float(axis @ other)))))


def test_a_planted_axis_is_found_in_any_parts():
    images, labels = planted()
    axis = colour_axis([(images, labels)], CLASSES)
    assert axis.dtype == np.float32 and np.linalg.norm(axis) == pytest.approx(1.0, abs=1e-6)
    assert degrees(axis) < 2.0
    assert axis[np.argmax(np.abs(axis))] > 0
    np.testing.assert_allclose(colour_axis(in_parts(images, labels), CLASSES), axis, atol=1e-5)
    # A class that never occurs changes nothing.
    np.testing.assert_allclose(colour_axis([(images, labels)], CLASSES + 3), axis, atol=1e-6)


def test_more_pictures_find_it_better():
    few, many = (
        np.mean([degrees(colour_axis([planted(rows, 4.0, seed)], CLASSES)) for seed in range(6)])
        for rows in (400, 6400)
    )
    assert many < 0.5 * few


def test_it_is_the_class_means_axis_and_not_the_one_of_most_variance():
    """By hand: two classes whose means differ by a known vector, noise along another."""
    rng = np.random.default_rng(3)
    labels = np.arange(20_000) % 2
    loud, told = np.array([1.0, 1.0, 1.0]) / np.sqrt(3), np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    colour = 128 + rng.normal(0, 25, (20_000, 1)) * loud + np.where(labels, 8, -8)[:, None] * told
    images = np.rint(colour + rng.normal(0, 2, (20_000, 3))).astype(np.uint8)[:, None, None]
    axis = colour_axis([(np.broadcast_to(images, (20_000, 4, 4, 3)), labels)], 2)
    assert degrees(axis, told) < 3.0


def test_too_few_pictures_are_refused():
    images, labels = planted(8)
    for part in (slice(0, 1), labels == labels[0]):
        with pytest.raises(ValueError, match="two classes and more pictures"):
            colour_axis([(images[part], labels[part])], CLASSES)
