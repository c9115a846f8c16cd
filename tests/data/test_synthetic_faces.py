"""Contracts of the procedural faces: what a face may and may not depend on."""

import hashlib

import numpy as np
import pytest

from tf_mtl_privacy.data import synthetic_faces as sf
from tf_mtl_privacy.data.synthetic_faces.rendering import Style, render_labelled


def _equal(first: sf.Faces, second: sf.Faces) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _rows(faces: sf.Faces, rows) -> sf.Faces:
    return sf.Faces(*(field[rows] for field in faces))


def test_fields_have_the_stated_shapes_and_types():
    faces = sf.render(0, "train", np.arange(5), size=40)
    assert faces.image.shape == (5, 40, 40, 3) and faces.image.dtype == np.uint8
    assert faces.iris_mask.shape == (5, 40, 40) and faces.iris_mask.dtype == bool
    for name, classes in sf.ATTRIBUTES.items():
        label = getattr(faces, name)
        assert label.shape == (5,) and label.dtype == np.int32
        assert label.min() >= 0 and label.max() < len(classes)
    assert faces.identity.dtype == np.int64 and np.all(faces.identity == -1)


@pytest.mark.parametrize("num_identities", [0, 7])
def test_a_face_does_not_depend_on_its_batch(num_identities):
    options = {"num_identities": num_identities, "shift": "all", "correlation": 0.5}
    together = sf.render(3, "train", np.arange(40), size=32, **options)
    order = np.random.default_rng(0).permutation(40)
    for rows in (order, order[:1], order[5:18], np.array([3, 3, 39])):
        assert _equal(_rows(together, rows), sf.render(3, "train", rows, size=32, **options))


def test_no_rows_give_no_faces():
    assert sf.render(0, "train", np.arange(0)).image.shape == (0, 64, 64, 3)
    assert sf.labels(0, "train", []).iris.shape == (0,)


def test_large_indices_are_faces_of_their_own():
    near, far = (sf.render(0, "train", np.array([k])) for k in (5, 5 + 2**32))
    assert not np.array_equal(near.image, far.image)


def test_streams_and_seeds_are_disjoint():
    seen = set()
    streams = ("train", "validation", "test", "attacker", "backbone", "membership", "fills")
    for seed in (0, 1):
        for stream in streams:
            images = sf.render(seed, stream, np.arange(12), size=32).image
            seen.update(image.tobytes() for image in images)
    assert len(seen) == 2 * len(streams) * 12


def test_labels_are_those_of_render():
    rows = np.array([4, 9, 2**40, 11])
    options = {"num_identities": 5, "correlation": 0.7}
    faces, labels = sf.render(1, "test", rows, **options), sf.labels(1, "test", rows, **options)
    for name in sf.Labels._fields:
        np.testing.assert_array_equal(getattr(faces, name), getattr(labels, name))


def test_checksum_is_pinned():
    """A change of any pixel needs a new VERSION and CHECKSUM, and new tables of results."""
    digest = hashlib.sha256()
    for options in (
        {"size": 32},
        {"size": 64, "shift": "all"},
        {"size": 64, "num_identities": 3, "correlation": 0.5},
    ):
        faces = sf.render(0, "train", np.arange(16), **options)
        for field in faces:
            digest.update(np.ascontiguousarray(field).tobytes())
    assert digest.hexdigest() == sf.CHECKSUM


@pytest.mark.parametrize("shift", ["none", "blur", "all"])
def test_iris_label_changes_nothing_outside_the_mask(shift):
    rows, style = np.arange(10), Style(48, shift)
    labels = sf.labels(0, "train", rows)
    faces = render_labelled(0, "train", rows, labels, style)
    changed = np.zeros(faces.iris_mask.shape, bool)
    for kind in range(8):
        other = labels._replace(iris=np.full_like(labels.iris, kind))
        twin = render_labelled(0, "train", rows, other, style)
        np.testing.assert_array_equal(twin.iris_mask, faces.iris_mask)
        changed |= np.any(twin.image != faces.image, axis=-1)
    assert not np.any(changed & ~faces.iris_mask)
    # The mask is also not much larger than it must be, where nothing is blurred.
    if shift == "none":
        assert changed.sum() > 0.6 * faces.iris_mask.sum()


def test_every_iris_class_looks_different():
    rows, style = np.arange(8), Style(64, "none")
    labels = sf.labels(0, "train", rows)
    twins = [
        render_labelled(0, "train", rows, labels._replace(iris=np.full_like(labels.iris, k)), style)
        for k in range(8)
    ]
    for a in range(8):
        for b in range(a):
            gap = np.abs(twins[a].image.astype(int) - twins[b].image)[twins[a].iris_mask]
            assert gap.mean() > 4.0


@pytest.mark.parametrize("size", sf.SIZES)
def test_every_size_shows_the_same_face(size):
    faces = sf.render(0, "train", np.arange(3), size=size)
    assert faces.image.shape == (3, size, size, 3)
    assert 0.01 < faces.iris_mask.mean() < 0.08
    reference = sf.render(0, "train", np.arange(3), size=64).image.mean(axis=(1, 2))
    np.testing.assert_allclose(faces.image.mean(axis=(1, 2)), reference, atol=6.0)


@pytest.mark.parametrize("shift", sf.SHIFTS[1:])
def test_shift_changes_pictures_but_not_labels(shift):
    plain = sf.render(0, "train", np.arange(12))
    shifted = sf.render(0, "train", np.arange(12), shift=shift)
    for name in sf.Labels._fields:
        np.testing.assert_array_equal(getattr(plain, name), getattr(shifted, name))
    assert np.all(np.any(plain.image != shifted.image, axis=(1, 2, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 30}, "multiple of 8"),
        ({"size": 136}, "multiple of 8"),
        ({"size": 65}, "multiple of 8"),
        ({"shift": "fog"}, "shift to be one of"),
        ({"correlation": 1.5}, "correlation in"),
        ({"correlation": float("nan")}, "correlation in"),
        ({"num_identities": -1}, "num_identities"),
        ({"num_identities": 2.5}, "num_identities"),
        ({"indices": np.array([-1])}, "indices >= 0"),
        ({"indices": np.array([0.5])}, "integers"),
        ({"indices": np.zeros((2, 2), int)}, "one-dimensional"),
        ({"stream": ""}, "stream"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"seed": 0, "stream": "train", "indices": np.arange(2)} | changes
    with pytest.raises(ValueError, match=message):
        sf.render(**arguments)
