"""Labels: tasks, private labels, bins, identities and splits."""

import dataclasses
import hashlib

import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import Dataset, open_dataset
from tf_mtl_privacy.data.dataset import class_lines, class_warnings
from tf_mtl_privacy.data.labels import (
    attribute,
    bin_names,
    choose_people,
    joint_code,
    make_targets,
    reordered,
    split_by_person,
    with_classes,
)
from tf_mtl_privacy.data.sources.base import LabelTable
from tf_mtl_privacy.data.splitting import (
    limit_rows,
    random_split,
    split_names,
    with_validation,
)
from tf_mtl_privacy.errors import UsageError


def table(**changes):
    count = 6
    values = {
        "keys": np.arange(count).astype(str),
        "split": np.array([0, 0, 0, 1, 2, 2], np.int8),
        "attributes": {
            "Male": np.array([0, 1, 1, 0, -1, 1], np.int32),
            "Smiling": np.array([1, 1, 0, 0, 1, -1], np.int32),
            "Bald": np.array([0, 0, 1, 0, 1, 0], np.int32),
            "age": np.array([0, 1, 2, 3, 0, 1], np.int32),
        },
        "attribute_classes": {
            "Male": ("not_Male", "Male"),
            "Smiling": ("not_Smiling", "Smiling"),
            "Bald": ("not_Bald", "Bald"),
            "age": ("child", "young", "middle", "senior"),
        },
    }
    return LabelTable(**(values | changes))


def config(**options):
    given = {"dataset": "csv", "data_dir": "x", "tasks": "gender=Male", "private_label": "none"}
    return DataConfig(**(given | options))


def test_make_targets_tasks_keep_names_classes_and_unknowns():
    targets = make_targets(table(), config(tasks="gender=Male,years=age"))
    assert list(targets.labels.business) == ["gender", "years"]
    assert targets.labels.business["gender"].tolist() == [0, 1, 1, 0, -1, 1]
    assert targets.task_classes["years"] == ("child", "young", "middle", "senior")
    assert targets.private_classes == () and targets.labels.private.tolist() == [-1] * 6


def test_make_targets_attribute_as_private_label():
    targets = make_targets(table(), config(private_label="age"))
    assert targets.labels.private.tolist() == [0, 1, 2, 3, 0, 1]
    assert targets.private_classes == ("child", "young", "middle", "senior")


def test_joint_code_of_two_matches_hand_calculation():
    code, classes = joint_code(table(), ["Male", "Smiling"])
    # Male leads: code = 2 * Male + Smiling, unknown where either is.
    assert code.tolist() == [1, 3, 2, 0, -1, -1] and code.dtype == np.int32
    assert classes == (
        "Male=0,Smiling=0",
        "Male=0,Smiling=1",
        "Male=1,Smiling=0",
        "Male=1,Smiling=1",
    )


def test_joint_code_of_three_has_eight_classes():
    targets = make_targets(
        table(), config(tasks="years=age", private_label="attributes:Bald,Male,Smiling")
    )
    assert targets.labels.private.tolist() == [1, 3, 6, 0, -1, -1]
    assert len(targets.private_classes) == 8
    assert targets.private_classes[6] == "Bald=1,Male=1,Smiling=0"


def test_joint_code_non_binary_attribute_is_refused():
    with pytest.raises(UsageError, match="attributes:Male,age: age has 4 classes, expected 2"):
        make_targets(table(), config(tasks="bald=Bald", private_label="attributes:Male,age"))


@pytest.mark.parametrize("name", ["smilng", "SMILING"])
def test_attribute_unknown_name_lists_matches(name):
    with pytest.raises(UsageError) as caught:
        make_targets(table(), config(tasks=f"mood={name}"))
    assert str(caught.value) == (
        f"--tasks=mood={name}: no attribute {name!r}; did you mean Smiling? there are: Bald, Male, "
        "Smiling, age"
    )
    with pytest.raises(UsageError, match="--private_label=xyz: no attribute 'xyz'; there are:"):
        make_targets(table(), config(private_label="xyz"))
    assert attribute(table(), "Bald", "").tolist() == [0, 0, 1, 0, 1, 0]


def test_choose_people_takes_those_with_most_usable_images():
    person = np.array([5] * 4 + [2] * 5 + [9] * 4 + [7] * 3 + [1] * 2 + [-1] * 9)
    split = np.zeros(len(person), np.int8)
    assert choose_people(person, split, 2).tolist() == [2, 5]  # 5 and 9 tie: the smaller number
    assert choose_people(person, split, 4).tolist() == [2, 5, 7, 9]
    split[4:7] = -1  # three of person 2's images are damaged: two are left
    assert choose_people(person, split, 2).tolist() == [5, 9]
    with pytest.raises(UsageError, match="--num_identities=5: only 4 people have 3 or more"):
        choose_people(person, np.zeros(len(person), np.int8), 5)


def test_split_by_person_uses_the_stated_shares():
    counts = {0: 20, 1: 10, 2: 3, 3: 5}
    private = np.repeat(list(counts), list(counts.values())).astype(np.int32)
    private = np.concatenate([private, [-1, -1]]).astype(np.int32)
    split = np.concatenate([np.full(38, 2), [1, 2]]).astype(np.int8)
    split[0] = -1
    result = split_by_person(private, split, 0.2, seed=3)
    found = {
        k: [int(((private == k) & (result == side)).sum()) for side in (0, 1, 2)] for k in counts
    }
    # 19 usable images of person 0: round(3.8) = 4 for testing, half of it for validation.
    assert found == {0: [13, 2, 4], 1: [7, 1, 2], 2: [1, 1, 1], 3: [3, 1, 1]}
    assert result[0] == -1 and result[-2:].tolist() == [1, 2]
    assert split[1:38].tolist() == [2] * 37  # the argument is not touched
    np.testing.assert_array_equal(result, split_by_person(private, split, 0.2, seed=3))
    assert (result != split_by_person(private, split, 0.2, seed=4)).any()


def people_and_files(people=60, images=20):
    person = np.repeat(np.arange(people), images).astype(np.int32)
    names = np.array([f"{k:06d}.jpg" for k in range(len(person))])
    order = np.random.default_rng(5).permutation(len(person))
    return person[order], names[order]


def test_split_by_person_removing_anybody_moves_no_row_of_others():
    person, names = people_and_files()
    split = np.zeros(len(person), np.int8)
    whole = split_by_person(person, split, 0.2, 3, names=names)
    for gone in range(60):
        rest = person != gone
        # Classes are numbered anew where somebody is missing, as `make_targets` does it.
        number = np.unique(person[rest], return_inverse=True)[1].astype(np.int32)
        found = split_by_person(number, split[rest], 0.2, 3, names=names[rest])
        np.testing.assert_array_equal(found, whole[rest])
    # The order of the table is no matter, either.
    turned = split_by_person(person[::-1], split, 0.2, 3, names=names[::-1])
    np.testing.assert_array_equal(turned[::-1], whole)


def test_split_by_person_takes_images_without_regard_to_their_place():
    person, names = people_and_files(people=400)
    whole = split_by_person(person, np.zeros(len(person), np.int8), 0.2, 3, names=names)
    for side, share in ((0, 0.7), (1, 0.1), (2, 0.2)):
        # 20 images: 4 for testing, 2 for validation. Of the first half of the file names, a
        # hypergeometric number: its variance is below the binomial one.
        first = whole[np.argsort(names)][:4000] == side
        deviation = np.sqrt(4000 * share * (1 - share))
        assert abs(first.sum() - 4000 * share) < 4 * deviation
        assert (whole == side).sum() == 8000 * share


def test_split_by_person_version_1_is_the_permutation_of_all_rows():
    person, names = people_and_files(people=9, images=7)
    split = np.zeros(63, np.int8)
    found = split_by_person(person, split, 0.3, 11, names=names, version=1)
    order = np.random.Generator(np.random.Philox(key=11)).permutation(63)
    for one in range(9):
        rows = [row for row in order if person[row] == one]
        # 7 images: round(2.1) = 2 for testing, 1 for validation.
        assert [found[row] for row in rows] == [2, 2, 1, 0, 0, 0, 0]
    assert (found != split_by_person(person, split, 0.3, 11, names=names)).any()


@pytest.mark.parametrize("with_people", [True, False])
def test_random_split_removing_anybody_moves_no_row_of_others(with_people):
    person, names = people_and_files()
    who = [f"p{k}" for k in person] if with_people else None
    whole = random_split(split_names(names, who), 2)
    for gone in range(60):
        rest = person != gone
        left = None if who is None else [name for name, k in zip(who, rest, strict=True) if k]
        np.testing.assert_array_equal(random_split(split_names(names[rest], left), 2), whole[rest])
    # People (60) or rows (1200) are drawn with probability 0.1 for each held-out side.
    units = 60 if with_people else 1200
    for side in (1, 2):
        held = (whole == side).sum() / (len(person) / units)
        assert abs(held - 0.1 * units) < 4 * np.sqrt(0.09 * units)


@pytest.mark.parametrize("seed", range(3))
def test_with_validation_removing_anybody_moves_no_row_of_others(seed):
    person, names = people_and_files(people=200, images=3)
    split = np.where(person < 50, 2, 0).astype(np.int8)
    units = np.array(split_names(names, [f"p{k}" for k in person]))
    whole = with_validation(split, list(units), seed)
    assert 3 < (whole == 1).sum() / 3 < 30  # of 150 people, 15 with a deviation of 3.7
    for gone in range(0, 200, 4):
        rest = person != gone
        found = with_validation(split[rest], list(units[rest]), seed)
        np.testing.assert_array_equal(found, whole[rest])


def test_limit_rows_without_a_person_keeps_the_others():
    person, names = people_and_files()
    rows = np.arange(len(person))
    for label in (np.full(len(person), -1, np.int32), person):
        whole = set(names[limit_rows(rows, label, 300, 4, names=names)])
        for gone in range(0, 60, 7):
            rest = person != gone
            found = limit_rows(np.arange(rest.sum()), label[rest], 300, 4, names=names[rest])
            left = whole - set(names[person == gone])
            # What the person leaves is filled up; nobody else goes.
            assert left < set(names[rest][found]) and len(found) == 300


def test_limit_rows_version_1_is_the_permutation_of_the_rows():
    rows = np.arange(100, 200)
    found = limit_rows(rows, np.full(300, -1), 30, 6, version=1)
    order = np.random.Generator(np.random.Philox(key=[6, 1])).permutation(100)
    assert found.tolist() == sorted(100 + order[:30])
    assert (found != limit_rows(rows, np.full(300, -1), 30, 6)).any()


def without(rows, gone):
    keep = rows.person != gone
    return dataclasses.replace(
        rows,
        keys=rows.keys[keep],
        split=rows.split[keep],
        person=rows.person[keep],
        attributes={name: values[keep] for name, values in rows.attributes.items()},
    )


def test_identity_removing_a_chosen_person_moves_only_the_replacement():
    person, names = people_and_files(people=30)
    keep = np.ones(len(person), bool)
    # Person k has k images less, so the 20 chosen are known.
    for k in range(15):
        keep[np.flatnonzero(person == k)[:k]] = False
    person, names = person[keep], names[keep]
    rows = table(
        keys=names,
        split=np.random.default_rng(1).integers(0, 3, len(person)).astype(np.int8),
        person=person.astype(np.int64),
        attributes={"Male": np.zeros(len(person), np.int32)},
        attribute_classes={"Male": ("not_Male", "Male")},
    )
    asked = config(private_label="identity", num_identities=20)
    whole = make_targets(rows, asked).split
    for gone in range(30):
        found = make_targets(without(rows, gone), asked).split
        moved = set(person[person != gone][found != whole[person != gone]])
        # People 15 to 29 have most images, then 0 to 4; person 5 is the next.
        assert moved <= ({5} if gone < 5 or gone >= 15 else set())


def test_identity_split_version_1_is_reproduced():
    person, names = people_and_files(people=8)
    rows = table(
        keys=names,
        split=np.zeros(len(person), np.int8),
        person=person.astype(np.int64),
        attributes={"Male": np.zeros(len(person), np.int32)},
        attribute_classes={"Male": ("not_Male", "Male")},
    )
    asked = config(private_label="identity", num_identities=8, data_seed=2)
    old = make_targets(rows, dataclasses.replace(asked, split_version=1)).split
    np.testing.assert_array_equal(
        old, split_by_person(person, rows.split, 0.2, 2, names=names, version=1)
    )
    assert (old != make_targets(rows, asked).split).any()


def test_identity_labels_name_people_and_leave_the_others_unknown():
    person = np.array([40] * 5 + [8] * 4 + [3] * 2 + [-1])
    rows = table(
        keys=np.arange(12).astype(str),
        split=np.array([2] * 9 + [0, 1, 2], np.int8),
        person=person,
        attributes={"Male": np.zeros(12, np.int32)},
        attribute_classes={"Male": ("not_Male", "Male")},
    )
    targets = make_targets(rows, config(private_label="identity", num_identities=2))
    assert targets.private_classes == ("person8", "person40")
    assert targets.labels.private.tolist() == [1] * 5 + [0] * 4 + [-1] * 3
    for label in (0, 1):
        assert set(targets.split[targets.labels.private == label]) == {0, 1, 2}
    assert targets.split[9:].tolist() == [0, 1, 2]


def test_identity_needs_identities():
    with pytest.raises(UsageError, match="--private_label=identity: csv has no identities"):
        make_targets(table(), config(private_label="identity"))


def test_identity_synthetic_people_without_a_training_image_are_refused():
    rows = table(person=np.array([0, 0, 0, 1, 1, 1]))
    drawn = DataConfig(tasks="gender=Male", private_label="identity", num_identities=2)
    with pytest.raises(UsageError, match="--num_identities=2: 1 of these people have no training"):
        make_targets(rows, drawn)


def test_limit_rows_takes_every_class_first():
    private = np.array([-1] * 50 + [0] * 30 + [1] * 3 + [2] * 17)
    rows = np.arange(100)
    chosen = limit_rows(rows, private, 9, seed=1)
    assert np.bincount(private[chosen]).tolist() == [3, 3, 3]
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(private[limit_rows(rows, private, 12, seed=1)] + 1)[2] == 3
    assert (private[limit_rows(rows, private, 60, seed=1)] >= 0).sum() == 50
    np.testing.assert_array_equal(chosen, limit_rows(rows, private, 9, seed=1))
    assert (chosen != limit_rows(rows, private, 9, seed=2)).any()


@pytest.mark.parametrize("count", [0, 100, 1000])
def test_limit_rows_zero_keeps_all_rows(count):
    rows = np.arange(0, 200, 2)
    np.testing.assert_array_equal(limit_rows(rows, np.full(200, -1), count, 0), rows)


def test_random_split_is_80_10_10_and_keeps_people_together():
    keys = np.array([f"{k}.png" for k in range(4000)])
    counts = np.bincount(random_split(split_names(keys), 0))
    # Binomial: 400 expected with a standard deviation of 19.
    assert abs(counts[1] - 400) < 95 and abs(counts[2] - 400) < 95
    person = np.array([f"p{k % 20}" for k in range(200)])
    split = random_split(split_names(keys[:200], person), 0)
    assert all(len(set(split[person == name])) == 1 for name in set(person))
    assert (split != random_split(split_names(keys[:200], person), 1)).any()
    # A file and a person of the same name are not the same.
    assert len(set(split_names(np.array(["a", "b"]), ["b", ""]))) == 2


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("total", [3, 4, 7])
def test_random_split_tiny_set_fills_every_side(total, seed):
    # The first has two images.
    names = split_names(np.arange(total + 1).astype(str), ["x", "x", *[""] * (total - 1)])
    few = random_split(names, seed)
    assert few[0] == few[1] and sorted(set(few)) == [0, 1, 2]
    assert random_split(["row/a", "row/b"], seed).tolist() == [0, 0]


def test_random_split_depends_on_the_hash_of_the_name_only():
    names = [f"row/{k}" for k in range(300)]
    split = random_split(names, 7)
    for name, side in zip(names[:20], split, strict=False):
        digest = hashlib.blake2b(name.encode(), key=b"7", digest_size=8).hexdigest()
        value = int(digest, 16) / 2**64
        assert side == (2 if value < 0.1 else 1 if value < 0.2 else 0)
    assert random_split(names[100:], 7).tolist() == split[100:].tolist()


def test_with_validation_existing_validation_rows_are_kept():
    names = [f"row/{k}" for k in range(6)]
    assert with_validation(np.array([0, 0, 0, 0, 1, 2], np.int8), names, 0) is None
    assert with_validation(np.array([2] * 6, np.int8), names, 0) is None
    found = with_validation(np.array([0, 0, 0, 0, 2, 2], np.int8), names, 0)
    assert np.bincount(found).tolist() == [3, 1, 2]
    assert with_validation(np.array([0, 0, 2], np.int8), ["person/a"] * 2 + ["row/c"], 0) is None


@pytest.mark.parametrize(
    ("tasks", "private"),
    [("i=iris", "iris"), ("g=Male,s=Smiling", "attributes:Bald,Smiling"), ("i=iris", "")],
)
def test_data_config_task_equal_to_the_private_label_is_refused(tasks, private):
    with pytest.raises(UsageError, match=r"--tasks=\w=\w+: \w+ is part of --private_label="):
        DataConfig(tasks=tasks, private_label=private)
    DataConfig(tasks=tasks, private_label="none")


YEARS = ("2", "17.5", "18", "39", "40", "95", "nan")


def mood_table():
    return LabelTable(
        keys=np.arange(8).astype(str),
        split=np.zeros(8, np.int8),
        attributes={
            "years": np.array([0, 1, 2, 3, 4, 5, 6, -1], np.int32),
            "mood": np.array([0, 1, 2, 0, 1, 2, -1, 0], np.int32),
        },
        attribute_classes={"years": YEARS, "mood": ("glad", "calm", "sad")},
    )


def mood_config(**options):
    given = {"dataset": "csv", "data_dir": "x", "tasks": "mood=mood", "private_label": "none"}
    return DataConfig(**(given | options))


def test_bins_include_their_lower_edge_and_leave_text_unknown():
    found = with_classes(mood_table(), mood_config(bins="years=18:40"))
    assert found.attribute_classes["years"] == ("below 18", "18 to 40", "40 and above")
    assert found.attributes["years"].tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert found.attributes["years"].dtype == np.int32
    assert found.attributes["mood"].tolist() == mood_table().attributes["mood"].tolist()
    assert bin_names([0.5]) == ("below 0.5", "0.5 and above")


def test_bins_work_as_task_and_as_private_label(tmp_path):
    rows = [
        {"file": f"{k}.png", "years": str(20 + k), "mood": str(k % 2), "split": "train"}
        for k in range(30)
    ]
    write_csv(tmp_path / "faces", rows)
    given = {"data_dir": str(tmp_path / "faces"), "cache_dir": str(tmp_path), "image_size": 32}
    asked = {"tasks": "mood=mood", "private_label": "years", "bins": "years=30:45"}
    dataset = open_dataset(mood_config(**given, **asked))
    assert dataset.private_classes == ("below 30", "30 to 45", "45 and above")
    assert np.bincount(dataset.all_labels.private).tolist() == [10, 15, 5]
    # A joint code takes what two bins make of it.
    asked = {"tasks": "age=years", "private_label": "attributes:mood", "bins": "years=30"}
    assert open_dataset(mood_config(**given, **asked)).task_classes == {
        "age": ("below 30", "30 and above")
    }


def test_class_order_is_applied():
    found = with_classes(mood_table(), mood_config(class_order="mood=sad:calm:glad"))
    assert found.attribute_classes["mood"] == ("sad", "calm", "glad")
    assert found.attributes["mood"].tolist() == [2, 1, 0, 2, 1, 0, -1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": "age=18"}, "--bins=age=18: no attribute 'age'; there are: mood, years"),
        ({"bins": "mood=18"}, "--bins=mood=18: mood: its class 'glad' is not a number"),
        ({"class_order": "mood=sad:glad"}, "mood: expected every class once: glad:calm:sad"),
        ({"class_order": "moods=sad:glad"}, "no attribute 'moods'"),
        ({"bins": "years=18:18"}, "years: expected increasing numbers"),
        ({"bins": "years=18:old"}, "years: expected increasing numbers"),
        ({"bins": "years=inf"}, "years: expected increasing numbers"),
        ({"bins": "years"}, "--bins=years: expected attribute=EDGE:EDGE"),
        ({"bins": "years=1,years=2"}, "each attribute once"),
        ({"class_order": "mood=sad:sad"}, "mood: expected each class once"),
        ({"class_order": "mood=sad::glad"}, "--class_order=mood=sad::glad: expected attribute="),
    ],
)
def test_with_classes_impossible_request_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        with_classes(mood_table(), mood_config(**options))


def test_reordered_keeps_the_class_of_each_row():
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


def test_aligned_uses_the_models_class_numbers():
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


def test_class_lines_count_used_rows():
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


def test_class_warnings_name_odd_classes():
    odd = dataset(
        business={"mood": np.array([0, 1, 2, 3, 4, 0]), "size": np.array([0, 1, 2, 0, 1, 2])},
        task_classes={
            "mood": ("Glad", "glad", "very  sad", "Very sad", "nan"),
            "size": ("1", "1.0", "2"),
        },
    )
    # Rows 0 to 2 are for training.
    assert class_warnings(odd) == [
        "mood: the classes 'Glad', 'glad' differ only in spelling and count as 2",
        "mood: the classes 'very  sad', 'Very sad' differ only in spelling and count as 2",
        "mood: 'nan' counts as a class; leave these cells empty if the value is unknown",
        "mood: no training row has the class 'Very sad', 'nan'",
        "size: the classes '1', '1.0' differ only in spelling and count as 2",
    ]
    assert class_warnings(dataset()) == []


def test_class_warnings_suggest_bins_for_numbers():
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
        "age: 60 classes, all numbers; --bins=ATTRIBUTE=25:40:54 makes 4 classes of them"
    ]
    named = dataclasses.replace(data, task_classes={"age": tuple(f"town {k}" for k in range(60))})
    assert class_warnings(named) == ["age: 60 classes"]
    people = dataclasses.replace(data, task_classes={"age": tuple(f"person{k}" for k in range(60))})
    assert class_warnings(people) == []
