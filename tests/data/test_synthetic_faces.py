"""Synthetic faces: pictures, labels, people and streams."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from scipy import stats

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.data import synthetic_faces as sf
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.synthetic_faces.rendering import Style, render_labelled
from tf_mtl_privacy.errors import UsageError


def _equal(first: sf.Faces, second: sf.Faces) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _rows(faces: sf.Faces, rows) -> sf.Faces:
    return sf.Faces(*(field[rows] for field in faces))


def test_render_fields_have_documented_shapes_and_types():
    faces = sf.render(0, "train", np.arange(5), size=40)
    assert faces.image.shape == (5, 40, 40, 3) and faces.image.dtype == np.uint8
    assert faces.iris_mask.shape == (5, 40, 40) and faces.iris_mask.dtype == bool
    for name, classes in sf.ATTRIBUTES.items():
        label = getattr(faces, name)
        assert label.shape == (5,) and label.dtype == np.int32
        assert label.min() >= 0 and label.max() < len(classes)
    assert faces.identity.dtype == np.int64 and np.all(faces.identity == -1)


@pytest.mark.parametrize("num_identities", [0, 7])
def test_render_face_does_not_depend_on_its_batch(num_identities):
    options = {"num_identities": num_identities, "shift": "all", "correlation": 0.5}
    together = sf.render(3, "train", np.arange(40), size=32, **options)
    order = np.random.default_rng(0).permutation(40)
    for rows in (order, order[:1], order[5:18], np.array([3, 3, 39])):
        assert _equal(_rows(together, rows), sf.render(3, "train", rows, size=32, **options))


def test_render_no_rows_give_no_faces():
    assert sf.render(0, "train", np.arange(0)).image.shape == (0, 64, 64, 3)
    assert sf.labels(0, "train", []).iris.shape == (0,)


def test_render_large_indices_give_other_faces():
    near, far = (sf.render(0, "train", np.array([k])) for k in (5, 5 + 2**32))
    assert not np.array_equal(near.image, far.image)


def test_render_streams_and_seeds_are_disjoint():
    seen = set()
    streams = ("train", "validation", "test", "attacker", "backbone", "membership", "fills")
    for seed in (0, 1):
        for stream in streams:
            images = sf.render(seed, stream, np.arange(12), size=32).image
            seen.update(image.tobytes() for image in images)
    assert len(seen) == 2 * len(streams) * 12


def test_labels_match_render():
    rows = np.array([4, 9, 2**40, 11])
    options = {"num_identities": 5, "correlation": 0.7}
    faces, labels = sf.render(1, "test", rows, **options), sf.labels(1, "test", rows, **options)
    for name in sf.Labels._fields:
        np.testing.assert_array_equal(getattr(faces, name), getattr(labels, name))


def test_render_checksum_is_pinned():
    """A changed pixel needs a new VERSION and CHECKSUM, and new results."""
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
def test_render_iris_changes_nothing_outside_the_mask(shift):
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


def test_render_iris_classes_differ():
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
def test_render_sizes_show_the_same_face(size):
    faces = sf.render(0, "train", np.arange(3), size=size)
    assert faces.image.shape == (3, size, size, 3)
    assert 0.01 < faces.iris_mask.mean() < 0.08
    reference = sf.render(0, "train", np.arange(3), size=64).image.mean(axis=(1, 2))
    np.testing.assert_allclose(faces.image.mean(axis=(1, 2)), reference, atol=6.0)


@pytest.mark.parametrize("shift", sf.SHIFTS[1:])
def test_render_shift_changes_pictures_and_not_labels(shift):
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
def test_render_bad_arguments_are_refused(changes, message):
    arguments = {"seed": 0, "stream": "train", "indices": np.arange(2)} | changes
    with pytest.raises(ValueError, match=message):
        sf.render(**arguments)


ROWS = np.arange(40_000)
# Allows a false alarm in one of ten thousand tests; seeds are fixed, so results are stable.
RARE = 1e-4


@pytest.mark.parametrize("stream", ["train", "test"])
@pytest.mark.parametrize("name", list(sf.ATTRIBUTES))
def test_labels_classes_are_balanced(stream, name):
    classes = len(sf.ATTRIBUTES[name])
    counts = np.bincount(getattr(sf.labels(0, stream, ROWS), name), minlength=classes)
    low, high = stats.binom.interval(1.0 - RARE / classes, len(ROWS), 1.0 / classes)
    assert np.all((counts >= low) & (counts <= high)), counts


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(sf.ATTRIBUTES, 2)))
def test_labels_are_independent(first, second):
    labels = sf.labels(0, "train", ROWS)
    table = np.zeros((len(sf.ATTRIBUTES[first]), len(sf.ATTRIBUTES[second])))
    np.add.at(table, (getattr(labels, first), getattr(labels, second)), 1)
    assert stats.chi2_contingency(table).pvalue > RARE


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_labels_correlation_ties_iris_to_gender(correlation):
    labels = sf.labels(0, "train", ROWS, correlation=correlation)
    agree = np.sum(labels.iris // 4 == labels.gender)
    low, high = stats.binom.interval(1.0 - RARE, len(ROWS), 0.5 + 0.5 * correlation)
    assert low <= agree <= high
    counts = np.bincount(labels.iris, minlength=8)
    low, high = stats.binom.interval(1.0 - RARE / 8, len(ROWS), 0.125)
    assert np.all((counts >= low) & (counts <= high))


def test_labels_correlation_leaves_other_labels():
    plain, tied = (sf.labels(0, "train", ROWS, correlation=c) for c in (0.0, 1.0))
    for name in ("gender", "age", "expression"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(tied, name))


def test_labels_people_keep_theirs_across_streams():
    people = 50
    known: dict[int, tuple] = {}
    for stream in ("train", "test"):
        labels = sf.labels(0, stream, np.arange(2_000), num_identities=people)
        for row, who in enumerate(labels.identity.tolist()):
            traits = (labels.gender[row], labels.age[row], labels.iris[row])
            assert known.setdefault(who, traits) == traits
    assert set(known) == set(range(people))
    assert len(set(known.values())) > people // 2


def test_labels_people_vary_in_expression_and_number_of_pictures():
    labels = sf.labels(0, "train", ROWS, num_identities=10)
    counts = np.bincount(labels.identity, minlength=10)
    low, high = stats.binom.interval(1.0 - RARE / 10, len(ROWS), 0.1)
    assert np.all((counts >= low) & (counts <= high))
    for who in range(10):
        assert 0.45 < labels.expression[labels.identity == who].mean() < 0.55


def test_render_people_look_the_same_across_streams():
    """Across streams, pictures of a person are closer to each other than to other people's."""
    rows = np.arange(240)
    people = 6
    first = sf.render(0, "train", rows, size=32, num_identities=people)
    second = sf.render(0, "test", rows, size=32, num_identities=people)
    assert len(np.unique(np.concatenate([first.image, second.image]), axis=0)) == 2 * len(rows)

    def portraits(faces: sf.Faces) -> np.ndarray:
        return np.stack([faces.image[faces.identity == k].mean(axis=0) for k in range(people)])

    a, b = portraits(first), portraits(second)
    distances = np.mean((a[:, None] - b[None]) ** 2, axis=(2, 3, 4))
    np.testing.assert_array_equal(np.argmin(distances, axis=1), np.arange(people))


SMALL = {"train_rows": 40, "validation_rows": 12, "test_rows": 12}


def config(tmp_path, stream, **options):
    data = DataConfig(image_size=32, cache_dir=str(tmp_path), synthetic_stream=stream, **SMALL)
    return dataclasses.replace(data, **options)


def fingerprint(data):
    return open_source(data).fingerprint()


@pytest.mark.parametrize("shift", ["none", "all"])
def test_backbone_stream_shares_no_face_with_others(tmp_path, shift):
    used, aside = (
        open_dataset(config(tmp_path, stream, synthetic_shift=shift))
        for stream in ("train", "backbone")
    )
    seen = [used.store.images(np.concatenate(list(used.rows.values())))]
    theirs = aside.store.images(aside.rows["train"])
    assert len(theirs) == 40
    assert not {image.tobytes() for image in theirs} & {image.tobytes() for image in seen[0]}
    # Not one of the 12 attributes' 40 values is copied either: the labels are drawn anew.
    for task, values in used.labels("train").business.items():
        assert not np.array_equal(values, aside.labels("train").business[task]), task


def test_backbone_stream_keeps_validation_and_test_rows(tmp_path):
    used, aside = (open_dataset(config(tmp_path, stream)) for stream in ("train", "backbone"))
    for split in ("validation", "test"):
        np.testing.assert_array_equal(
            used.store.images(used.rows[split]), aside.store.images(aside.rows[split])
        )
        ours, theirs = used.labels(split), aside.labels(split)
        np.testing.assert_array_equal(ours.private, theirs.private)
        for task in ours.business:
            np.testing.assert_array_equal(ours.business[task], theirs.business[task])
    assert list(used.keys[used.rows["test"]]) == list(aside.keys[aside.rows["test"]])
    assert not set(used.keys[used.rows["train"]]) & set(aside.keys[aside.rows["train"]])


def test_backbone_stream_has_its_own_store(tmp_path):
    train, aside = config(tmp_path, "train"), config(tmp_path, "backbone")
    assert fingerprint(train) != fingerprint(aside)
    assert fingerprint(aside) != fingerprint(dataclasses.replace(aside, data_seed=1))
    assert open_dataset(train).fingerprint != open_dataset(aside).fingerprint
    # Which part of a sheet of faces is asked for changes nothing in the faces.
    again = open_dataset(config(tmp_path / "again", "backbone"))
    assert again.fingerprint == open_dataset(aside).fingerprint


def test_data_config_unknown_stream_is_refused():
    with pytest.raises(UsageError, match="--synthetic_stream=test: expected one of train, backbon"):
        DataConfig(synthetic_stream="test")
