import dataclasses
import re
import types

import numpy as np
import pytest

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import Dataset, open_dataset, open_store, synthetic_faces
from tf_mtl_privacy.errors import RunError, UsageError

COUNTS = {"train_rows": 40, "validation_rows": 10, "test_rows": 12}


@pytest.fixture
def config(tmp_path):
    return DataConfig(image_size=32, cache_dir=str(tmp_path / "cache"), data_seed=5, **COUNTS)


def arrays(**changes):
    generator = np.random.default_rng(0)
    given = {
        "images": generator.integers(0, 256, (6, 16, 16, 3), np.uint8),
        "business": {"mood": np.array([0, 1, 2, -1, 1, 0])},
        "private": np.array([0, 1, -1, 1, 0, 1]),
        "split": np.array([0, 0, 0, 1, 2, -1]),
    }
    return given | changes


def test_synthetic_rows_are_the_faces_of_their_stream(config):
    dataset = open_dataset(config)
    assert {k: len(v) for k, v in dataset.rows.items()} == {
        "train": 40,
        "validation": 10,
        "test": 12,
    }
    faces = synthetic_faces.render(5, "test", np.array([3, 11]), size=32)
    rows = dataset.rows["test"][[3, 11]]
    batch = dataset.batch(rows)
    np.testing.assert_array_equal(batch.image, faces.image)
    np.testing.assert_array_equal(batch.business["age"], faces.age)
    np.testing.assert_array_equal(batch.private, faces.iris)
    np.testing.assert_array_equal(dataset.store.regions(rows), faces.iris_mask)
    assert dataset.private_classes == synthetic_faces.ATTRIBUTES["iris"]
    assert dataset.keys[rows].tolist() == ["test/3", "test/11"]


def test_one_store_serves_other_labels_and_another_where_pixels_differ(config):
    folder = open_store(config).folder
    for same in ({"private_label": "hair"}, {"tasks": "mood=expression"}, {"max_damaged": 0.5}):
        other = dataclasses.replace(config, **same)
        assert open_store(other, prepare=False).folder == folder
    for different in (
        {"data_seed": 6},
        {"image_size": 40},
        {"synthetic_shift": "light"},
        {"synthetic_correlation": 0.5},
        {"test_rows": 13},
        {"private_label": "identity"},
    ):
        with pytest.raises(RunError, match="no prepared store"):
            open_store(dataclasses.replace(config, **different), prepare=False)


def test_synthetic_identities_are_met_in_every_split(config):
    dataset = open_dataset(
        dataclasses.replace(config, private_label="identity", num_identities=3, test_rows=60)
    )
    assert dataset.private_classes == ("person0", "person1", "person2")
    for split in ("train", "test"):
        assert set(dataset.labels(split).private) == {0, 1, 2}
    np.testing.assert_array_equal(dataset.person, dataset.all_labels.private)


def test_a_batch_is_padded_with_rows_that_say_so():
    dataset = Dataset.from_arrays(**arrays())
    batch = dataset.batch(np.array([4, 1]), capacity=5)
    assert batch.image.shape == (5, 16, 16, 3) and batch.image.dtype == np.uint8
    np.testing.assert_array_equal(batch.image[:2], dataset.store.images(np.array([4, 1])))
    assert not batch.image[2:].any()
    assert batch.mask.tolist() == [True, True, False, False, False]
    assert batch.index.tolist() == [4, 1, -1, -1, -1] and batch.index.dtype == np.int64
    assert batch.business["mood"].tolist() == [1, 1, -1, -1, -1]
    assert batch.private.tolist() == [0, 1, -1, -1, -1]
    assert batch.private.dtype == batch.business["mood"].dtype == np.int32


def test_rows_of_minus_one_are_padding_too():
    dataset = Dataset.from_arrays(**arrays())
    batch = dataset.batch(np.array([2, -1, 0]))
    assert batch.mask.tolist() == [True, False, True]
    assert batch.business["mood"].tolist() == [2, -1, 0]
    assert not batch.image[1].any() and batch.image[2].any()
    empty = dataset.batch(np.array([], np.int64), capacity=2)
    assert not empty.mask.any() and empty.image.shape == (2, 16, 16, 3)


def test_batches_refuse_what_does_not_fit():
    dataset = Dataset.from_arrays(**arrays())
    with pytest.raises(ValueError, match="3 rows do not fit into capacity=2"):
        dataset.batch(np.array([0, 1, 2]), capacity=2)
    with pytest.raises(IndexError):
        dataset.batch(np.array([6]))


def test_from_arrays_names_classes_and_splits():
    dataset = Dataset.from_arrays(**arrays(), task_classes={"mood": ("a", "b", "c")})
    assert dataset.task_classes == {"mood": ("a", "b", "c")}
    assert dataset.private_classes == ("0", "1")
    assert {k: v.tolist() for k, v in dataset.rows.items()} == {
        "train": [0, 1, 2],
        "validation": [3],
        "test": [4],
    }
    assert dataset.labels("train").business["mood"].tolist() == [0, 1, 2]
    assert dataset.image_size == 16 and len(dataset.store) == 6
    assert Dataset.from_arrays(**arrays(private=None)).private_classes == ()


def test_the_fingerprint_of_arrays_covers_all_that_decides_who_is_trained_on():
    mood, private, split = (np.array(arrays()[n]) for n in ("private", "private", "split"))
    person = np.array([0, 0, 1, 1, 2, 2])
    given = arrays(person=person)
    variants = {
        "picture": given | {"images": given["images"] ^ (np.arange(6) == 3)[:, None, None, None]},
        "label": given | {"business": {"mood": mood}},
        "name of a task": given | {"business": {"humour": given["business"]["mood"]}},
        "private label": given | {"private": np.roll(private, 1)},
        "no private label": given | {"private": None},
        "split": given | {"split": np.roll(split, 1)},
        "person": given | {"person": np.array([0, 0, 1, 1, 2, 3])},
        "nobody known": given | {"person": np.full(6, -1)},
        "no people": given | {"person": None},
    }
    prints = {
        what: Dataset.from_arrays(**changed).fingerprint for what, changed in variants.items()
    }
    prints["as it was"] = Dataset.from_arrays(**given).fingerprint
    assert len(set(prints.values())) == len(prints), prints
    # What the numbers are stored as is no difference; nor are two equal data sets.
    same = given | {"split": split.astype(np.int8), "person": person.astype(np.int32)}
    assert Dataset.from_arrays(**same).fingerprint == prints["as it was"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((6, 16, 16, 3))}, r"expected \[N, S, S, 3\] uint8, got float64"),
        ({"images": np.zeros((6, 16, 17, 3), np.uint8)}, "images: expected"),
        ({"business": {"mood": np.zeros(5, int)}}, r"mood: expected 6 whole numbers.*\(5,\)"),
        ({"private": np.zeros(6)}, "private: expected 6 whole numbers, got float64"),
        ({"private_classes": ("only",)}, "class number 1, but there are 1 classes"),
        ({"business": {"mood": np.full(6, -2)}}, "mood: class number"),
        ({"regions": np.zeros((6, 8, 8), bool)}, "regions: expected shape"),
    ],
)
def test_from_arrays_refuses_what_does_not_fit(changes, message):
    with pytest.raises(UsageError, match=message):
        Dataset.from_arrays(**arrays(**changes))


def test_from_arrays_example_of_using_md_gives_fit_the_rows_of_each_split(repo_root):
    text = (repo_root / "docs" / "using.md").read_text(encoding="utf-8")
    (code,) = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "from_arrays" in code
    ]
    generator = np.random.default_rng(0)
    names = {
        "images": generator.integers(0, 256, (6, 32, 32, 3), np.uint8),
        "gender": np.array([0, 1, -1, 1, 0, 1]),
        "private": np.array([0, 1, 2, -1, 0, 1]),
        "split": np.array([0, 0, 0, 1, 2, 2]),
        "config": "a configuration",
        "tf_mtl_privacy": types.SimpleNamespace(fit=lambda *given, run_dir: (*given, run_dir)),
    }
    exec(code, names)
    given, dataset, run_dir = names["run"]
    assert (given, run_dir) == ("a configuration", "runs/own")
    assert {name: len(rows) for name, rows in dataset.rows.items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    assert dataset.private_classes == ("red", "green", "blue")
