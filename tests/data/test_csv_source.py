import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tests.fakes.pictures import picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset, open_store
from tf_mtl_privacy.data.csv_source import encode
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.errors import UsageError

ROWS = [
    {"file": "a.png", "mood": "glad", "years": "10", "identity": "ann", "split": "train"},
    {"file": "sub/b.png", "mood": "sad", "years": "9", "identity": "bo", "split": "validation"},
    {"file": "c.png", "mood": "", "years": "100", "identity": "", "split": "test"},
    {"file": "d.png", "mood": "glad", "years": "9", "identity": "ann", "split": "train"},
]


def config(tmp_path, **options):
    given = {
        "dataset": "csv",
        "data_dir": str(tmp_path / "faces"),
        "cache_dir": str(tmp_path / "cache"),
        "image_size": 40,
        "tasks": "mood=mood,years=years",
        "private_label": "none",
    }
    return DataConfig(**(given | options))


def test_classes_are_sorted_and_empty_is_unknown(tmp_path):
    write_csv(tmp_path / "faces", ROWS)
    dataset = open_dataset(config(tmp_path))
    assert dataset.task_classes == {"mood": ("glad", "sad"), "years": ("9", "10", "100")}
    assert dataset.all_labels.business["mood"].tolist() == [0, 1, -1, 0]
    assert dataset.all_labels.business["years"].tolist() == [1, 0, 2, 0]
    assert {k: v.tolist() for k, v in dataset.rows.items()} == {
        "train": [0, 3],
        "validation": [1],
        "test": [2],
    }
    assert dataset.person.tolist() == [0, 1, -1, 0]
    for row in range(4):
        np.testing.assert_array_equal(
            dataset.store.images(np.array([row]))[0], picture(row, 40, 40)
        )


def test_without_split_people_do_not_straddle(tmp_path):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": str(k % 10)} for k in range(40)]
    write_csv(tmp_path / "faces", rows)
    dataset = open_dataset(config(tmp_path, tasks="mood=mood"))
    people = {k: set(dataset.person[v]) for k, v in dataset.rows.items()}
    assert all(people.values()) and len(people["train"]) >= 6
    assert sum(map(len, people.values())) == len(set.union(*people.values()))


def test_a_row_more_moves_no_other(tmp_path):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": str(k % 60)} for k in range(120)]
    before = {}
    for extra in ([], [{"file": "new.png", "mood": "1", "identity": "0new"}]):
        # The new person comes first in every order: numbers of people and rows all change.
        write_csv(tmp_path / "faces", [*extra, *rows])
        dataset = open_dataset(config(tmp_path, tasks="mood=mood"))
        sides = {str(dataset.keys[row]): k for k, v in dataset.rows.items() for row in v}
        assert before.items() <= sides.items()
        before = sides
    assert len(before) == 121


def test_without_validation_rows_some_of_train_are_held_out(tmp_path):
    rows = [
        {
            "file": f"{k}.png",
            "mood": str(k % 2),
            "identity": str(k % 20),
            "split": "test" if k >= 80 else "train",
        }
        for k in range(90)
    ]
    write_csv(tmp_path / "faces", rows)
    dataset = open_dataset(config(tmp_path, tasks="mood=mood", private_label="none"))
    assert dataset.rows["test"].tolist() == list(range(80, 90))
    held = dataset.rows["validation"]
    assert 0 < len(held) < 40 and len(held) + len(dataset.rows["train"]) == 80
    assert not set(dataset.person[held]) & set(dataset.person[dataset.rows["train"]])
    assert "no validation rows" in dataset.notes[0]


def test_a_limit_that_leaves_a_person_without_a_training_row_is_refused(tmp_path):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": f"p{k % 4}"} for k in range(40)]
    write_csv(tmp_path / "faces", rows)
    given = {"tasks": "mood=mood", "private_label": "identity", "num_identities": 4}
    assert len(open_dataset(config(tmp_path, **given, train_rows=4)).rows["train"]) == 4
    with pytest.raises(UsageError, match="--train_rows=3: 1 of the --num_identities=4 people"):
        open_dataset(config(tmp_path, **given, train_rows=3))


def test_links_in_a_circle_and_to_themselves_are_passed_over(tmp_path):
    write_csv(tmp_path / "faces", ROWS)
    (tmp_path / "faces" / "sub" / "again").symlink_to(tmp_path / "faces")
    (tmp_path / "faces" / "self.png").symlink_to(tmp_path / "faces" / "self.png")
    assert sorted(open_source(config(tmp_path))._images) == ["a.png", "c.png", "d.png", "sub/b.png"]


def test_identity_as_private_label_puts_everybody_on_both_sides(tmp_path):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": f"p{k % 4}"} for k in range(40)]
    write_csv(tmp_path / "faces", rows)
    dataset = open_dataset(
        config(tmp_path, tasks="mood=mood", private_label="identity", num_identities=4)
    )
    assert "people seen in training" in dataset.notes[-1]
    assert np.bincount(dataset.labels("train").private).tolist() == [7] * 4
    assert np.bincount(dataset.labels("test").private).tolist() == [2] * 4


def test_the_old_choice_of_rows_is_named_beside_results(tmp_path):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": f"p{k % 4}"} for k in range(40)]
    write_csv(tmp_path / "faces", rows)
    given = {"tasks": "mood=mood", "private_label": "identity", "num_identities": 4}
    old, new = (open_dataset(config(tmp_path, **given, split_version=v)) for v in (1, 2))
    assert "--split_version=1" in old.notes[-1] and "epsilon of a person does not" in old.notes[-1]
    assert not any("split_version" in note for note in new.notes)
    assert old.rows["test"].tolist() != new.rows["test"].tolist()


def test_images_without_a_row_are_counted(tmp_path):
    path = write_csv(tmp_path / "faces", ROWS)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert open_store(config(tmp_path)).meta["warnings"] == ["1 images have no row in labels.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("file,", "name,"), "line 1: expected different column names"),
        (lambda s: s.replace("years", "mood"), "line 1: expected different column names"),
        (lambda s: s.replace("sad,9", "sad"), "line 3: expected 5 columns, got 4"),
        (lambda s: s.replace("d.png", "a.png"), "line 5: file 'a.png': expected a name inside"),
        (lambda s: s.replace("d.png", "../d.png"), "line 5: file '../d.png'"),
        (lambda s: s.replace("d.png", "/d.png"), "line 5: file '/d.png'"),
        (lambda s: s.replace("validation", "val"), "line 3: split 'val': expected train, valid"),
        (lambda s: s.splitlines()[0], "no row"),
        (lambda s: "", "line 1: expected different column names"),
        (lambda s: s + '"open', "cannot read"),
    ],
)
def test_a_broken_table_is_named_by_line(tmp_path, change, message):
    path = write_csv(tmp_path / "faces", ROWS)
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(UsageError, match=message) as caught:
        open_source(config(tmp_path)).load()
    assert "labels.csv" in str(caught.value)


def test_missing_table_and_folder(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        open_source(config(tmp_path))
    write_csv(tmp_path / "faces", ROWS).unlink()
    with pytest.raises(UsageError, match=r"no file labels.csv"):
        open_source(config(tmp_path))


def test_numbers_are_sorted_as_numbers_and_text_as_text():
    assert encode(["10", "9", "", "2.5"])[1] == ("2.5", "9", "10")
    assert encode(["b", "10", "9"])[1] == ("10", "9", "b")
    assert encode(["", ""])[0].tolist() == [-1, -1]
