"""Bins, the order of classes, their counts, and warnings; expected values by hand."""

import dataclasses

import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import Dataset, open_dataset
from tf_mtl_privacy.data.dataset import class_lines, class_warnings
from tf_mtl_privacy.data.labels import bin_names, reordered, with_classes
from tf_mtl_privacy.data.sources.base import LabelTable
from tf_mtl_privacy.errors import UsageError

YEARS = ("2", "17.5", "18", "39", "40", "95", "nan")


def table():
    return LabelTable(
        keys=np.arange(8).astype(str),
        split=np.zeros(8, np.int8),
        attributes={
            "years": np.array([0, 1, 2, 3, 4, 5, 6, -1], np.int32),
            "mood": np.array([0, 1, 2, 0, 1, 2, -1, 0], np.int32),
        },
        attribute_classes={"years": YEARS, "mood": ("glad", "calm", "sad")},
    )


def config(**options):
    given = {"dataset": "csv", "data_dir": "x", "tasks": "mood=mood", "private_label": "none"}
    return DataConfig(**(given | options))


def test_bins_hold_their_lower_edge_and_leave_unknown_what_is_no_number():
    found = with_classes(table(), config(bins="years=18:40"))
    assert found.attribute_classes["years"] == ("below 18", "18 to 40", "40 and above")
    assert found.attributes["years"].tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert found.attributes["years"].dtype == np.int32
    assert found.attributes["mood"].tolist() == table().attributes["mood"].tolist()
    assert bin_names([0.5]) == ("below 0.5", "0.5 and above")


def test_bins_serve_as_task_and_as_private_label(tmp_path):
    rows = [
        {"file": f"{k}.png", "years": str(20 + k), "mood": str(k % 2), "split": "train"}
        for k in range(30)
    ]
    write_csv(tmp_path / "faces", rows)
    given = {"data_dir": str(tmp_path / "faces"), "cache_dir": str(tmp_path), "image_size": 32}
    asked = {"tasks": "mood=mood", "private_label": "years", "bins": "years=30:45"}
    dataset = open_dataset(config(**given, **asked))
    assert dataset.private_classes == ("below 30", "30 to 45", "45 and above")
    assert np.bincount(dataset.all_labels.private).tolist() == [10, 15, 5]
    # A joint code takes what two bins make of it.
    asked = {"tasks": "age=years", "private_label": "attributes:mood", "bins": "years=30"}
    assert open_dataset(config(**given, **asked)).task_classes == {
        "age": ("below 30", "30 and above")
    }


def test_the_order_of_classes_can_be_given():
    found = with_classes(table(), config(class_order="mood=sad:calm:glad"))
    assert found.attribute_classes["mood"] == ("sad", "calm", "glad")
    assert found.attributes["mood"].tolist() == [2, 1, 0, 2, 1, 0, -1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": "age=18"}, "--bins=age=18: no attribute 'age'; there are: mood, years"),
        ({"bins": "mood=18"}, "--bins=mood=18: mood: its class 'glad' is not a number"),
        ({"class_order": "mood=sad:glad"}, "mood: expected every class once: glad:calm:sad"),
        ({"class_order": "moods=sad:glad"}, "no attribute 'moods'"),
        ({"bins": "years=18:18"}, "years: expected rising numbers"),
        ({"bins": "years=18:old"}, "years: expected rising numbers"),
        ({"bins": "years=inf"}, "years: expected rising numbers"),
        ({"bins": "years"}, "--bins=years: expected attribute=EDGE:EDGE"),
        ({"bins": "years=1,years=2"}, "each attribute once"),
        ({"class_order": "mood=sad:sad"}, "mood: expected each class once"),
        ({"class_order": "mood=sad::glad"}, "--class_order=mood=sad::glad: expected attribute="),
    ],
)
def test_what_cannot_be_done_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        with_classes(table(), config(**options))


def test_reordered_keeps_what_each_number_stands_for():
    generator = np.random.default_rng(0)
    classes = ["a", "b", "c", "d"]
    values = generator.integers(-1, 4, 50).astype(np.int32)
    for _ in range(5):
        order = generator.permutation(classes).tolist()
        found = reordered(values, classes, order)
        for before, after in zip(values, found, strict=True):
            assert (after == -1) if before == -1 else order[after] == classes[before]
    assert reordered(np.array([-1, -1], np.int32), [], []).tolist() == [-1, -1]


def dataset(**changes):
    given = {
        "images": np.zeros((6, 8, 8, 3), np.uint8),
        "business": {"mood": np.array([0, 1, 2, -1, 1, 0]), "hat": np.array([0, 1, 0, 1, 0, 1])},
        "private": np.array([0, 1, -1, 1, 0, 1]),
        "split": np.array([0, 0, 0, 1, 2, -1]),
        "task_classes": {"mood": ("calm", "glad", "sad"), "hat": ("no", "yes")},
        "private_classes": ("blue", "red"),
    }
    return Dataset.from_arrays(**(given | changes))


def test_a_model_keeps_its_class_numbers_on_data_that_sorts_them_otherwise():
    data = dataset()
    trained = {"mood": ("sad", "calm", "glad"), "hat": ("yes", "no")}
    found = data.aligned(trained, ("red", "blue"))
    assert found.task_classes == {"mood": ("sad", "calm", "glad"), "hat": ("yes", "no")}
    assert found.all_labels.business["mood"].tolist() == [1, 2, 0, -1, 2, 1]
    assert found.all_labels.business["hat"].tolist() == [1, 0, 1, 0, 1, 0]
    assert found.private_classes == ("red", "blue")
    assert found.all_labels.private.tolist() == [1, 0, -1, 0, 1, 0]
    assert found.digest == data.digest and found.rows is data.rows
    # Other names are not touched: they are compared, and noted or refused, elsewhere.
    same = data.aligned({"mood": ("a", "b", "c"), "hat": ("no", "yes"), "x": ("1",)}, ("green",))
    assert same is data


def test_classes_are_counted_over_the_rows_that_are_used():
    assert class_lines(dataset()) == [
        "mood: calm 1, glad 2, sad 1, unknown 1",
        "hat: no 3, yes 2",
        "private label: blue 2, red 2, unknown 1",
    ]
    many = dataset(
        business={"age": np.arange(6) * 7},
        task_classes={"age": tuple(str(20 + k) for k in range(40))},
        private=None,
        private_classes=None,
    )
    (line,) = class_lines(many)
    assert line.startswith("age: 20 1, 21 0, ") and line.endswith("31 0, 28 more classes")


def test_classes_that_look_wrong_are_told():
    odd = dataset(
        business={"mood": np.array([0, 1, 2, 3, 4, 0]), "size": np.array([0, 1, 2, 0, 1, 2])},
        task_classes={
            "mood": ("Glad", "glad", "very  sad", "Very sad", "nan"),
            "size": ("1", "1.0", "2"),
        },
    )
    # Rows 0 to 2 are for training.
    assert class_warnings(odd) == [
        "mood: the classes 'Glad', 'glad' differ in writing only and count as 2",
        "mood: the classes 'very  sad', 'Very sad' differ in writing only and count as 2",
        "mood: 'nan' counts as a class; leave these cells empty if nothing is known there",
        "mood: no training row is of the class 'Very sad', 'nan'",
        "size: the classes '1', '1.0' differ in writing only and count as 2",
    ]
    assert class_warnings(dataset()) == []


def test_ages_in_years_are_offered_bins():
    ages = np.arange(60).repeat(4)
    count = len(ages)
    data = Dataset.from_arrays(
        np.zeros((count, 8, 8, 3), np.uint8),
        {"age": ages},
        split=np.zeros(count, int),
        task_classes={"age": tuple(str(k + 10) for k in range(60))},
    )
    # The quartiles of 10 to 69, four rows each: 24.75, 39.5 (rounded to even) and 54.25.
    assert class_warnings(data) == [
        "age: 60 classes, all of them numbers; --bins=ATTRIBUTE=25:40:54 makes 4 of them"
    ]
    named = dataclasses.replace(data, task_classes={"age": tuple(f"town {k}" for k in range(60))})
    assert class_warnings(named) == ["age: 60 classes"]
    people = dataclasses.replace(data, task_classes={"age": tuple(f"person{k}" for k in range(60))})
    assert class_warnings(people) == []
