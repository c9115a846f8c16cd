import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tests.fakes.pictures import picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset, open_store
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.sources.base import content_hash, fingerprint, images_hash, list_images
from tf_mtl_privacy.data.sources.csv_folder import encode
from tf_mtl_privacy.data.splitting import SPLIT_VERSION
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


SPELLINGS = ["./a/0.png", "a//0.png", "a\\0.png", ".\\a\\0.png", "A/0.PNG", "a/./0.png"]


@pytest.mark.parametrize("other", SPELLINGS)
def test_one_picture_under_two_spellings_is_refused(tmp_path, other):
    rows = [{"file": f"a/{k}.png", "mood": "1", "split": "train"} for k in range(3)]
    path = write_csv(tmp_path / "faces", rows)
    with open(path, "a") as file:
        file.write(f"{other},1,test\r\n{other},1,train\r\n")
    with pytest.raises(UsageError) as caught:
        open_source(config(tmp_path)).load()
    assert str(caught.value) == (
        f"{path}, line 5: file {other!r}: expected a name inside the folder, once; it is the "
        "picture of line 2 ('a/0.png'), and would count twice: remove one of the rows (1 more such "
        "rows)"
    )


@pytest.mark.parametrize("other", SPELLINGS)
def test_a_picture_is_found_by_another_spelling_and_split_as_by_its_own(tmp_path, other):
    rows = [{"file": f"a/{k}.png", "mood": str(k % 2)} for k in range(30)]
    path = write_csv(tmp_path / "faces", rows)
    plain = open_dataset(config(tmp_path, tasks="mood=mood"))
    before = path.read_text()
    path.write_text(before.replace("a/0.png", other, 1))
    assert path.read_text() != before
    found = open_dataset(config(tmp_path, tasks="mood=mood"))
    assert found.keys.tolist() == plain.keys.tolist() and found.keys[0] == "a/0.png"
    assert found.store.meta["damaged"] == [] and found.store.meta["warnings"] == []
    for split, numbers in plain.rows.items():
        assert found.rows[split].tolist() == numbers.tolist()


@pytest.mark.parametrize("name", ["C:\\faces\\0.png", "\\faces\\0.png", "a\\..\\0.png", "./"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    path = write_csv(tmp_path / "faces", ROWS)
    with open(path, "a") as file:
        file.write(f"{name},glad,10,ann,train\r\n")
    with pytest.raises(UsageError, match=r"line 6: file .*: expected a name inside the folder"):
        open_source(config(tmp_path)).load()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_one_picture_under_two_names_by_a_link_is_refused(tmp_path, link):
    path = write_csv(tmp_path / "faces", ROWS)
    folder = tmp_path / "faces"
    (folder / "d.png").unlink()
    getattr(folder / "d.png", link)(folder / "a.png")
    with pytest.raises(UsageError, match=r"line 5: file 'd.png'.*the picture of line 2 \('a.png'"):
        open_source(config(tmp_path)).load()
    assert "labels.csv" in path.name


def test_letters_that_unicode_writes_in_two_ways_are_one_name(tmp_path):
    one, other = "caf\u00e9.png", "cafe\u0301.png"
    path = write_csv(
        tmp_path / "faces", [{"file": one, "mood": "1"}, {"file": "b.png", "mood": "2"}]
    )
    path.write_text(path.read_text().replace(one, other))
    store = open_store(config(tmp_path, tasks="mood=mood"))
    assert store.table.keys.tolist() == [one, "b.png"] and store.meta["damaged"] == []


def test_names_that_are_read_as_written_keep_their_store(tmp_path):
    """A store and a run from before names were normalised are still those of the data."""
    path = write_csv(tmp_path / "faces", ROWS)
    source = open_source(config(tmp_path))
    parts = content_hash(path), images_hash(list_images(path.parent))
    plain = fingerprint("csv", 40, "center", *parts, 0, SPLIT_VERSION)
    assert source.fingerprint() == plain
    path.write_text(path.read_text().replace("a.png", "./a.png"))
    parts = content_hash(path), parts[1]
    assert open_source(config(tmp_path)).fingerprint() != fingerprint(
        "csv", 40, "center", *parts, 0, SPLIT_VERSION
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_classes_with_nan_does_not_depend_on_the_process(python, seed):
    code = (
        "from tf_mtl_privacy.data.sources.csv_folder import encode; "
        "print(encode(['10', 'nan', '3', 'inf', '2', '1', '-inf'])[1])"
    )
    done = python("-c", code, env={"PYTHONHASHSEED": str(seed)})
    assert done.stdout.strip() == "('1', '2', '3', '10', '-inf', 'inf', 'nan')", done.stderr


def test_an_archive_is_named_where_the_table_is_missing(tmp_path):
    path = write_csv(tmp_path / "faces", ROWS)
    packed = path.with_name("labels.csv.zip")
    path.rename(packed)
    with pytest.raises(UsageError, match=r"no file labels.csv in it; .*labels.csv.zip is there"):
        open_source(config(tmp_path))


def test_people_who_are_written_in_several_ways_are_told(tmp_path):
    names = ["Ann Lee", "ann lee", "bo", "7", "7.0", "nan", ""]
    rows = [{"file": f"{k}.png", "mood": "1", "identity": name} for k, name in enumerate(names)]
    write_csv(tmp_path / "faces", rows)
    store = open_store(config(tmp_path))
    assert store.meta["warnings"] == [
        "identity: 2 people are written in several ways ('7', '7.0', say) and count as several "
        "people, who may be in train and test",
        "identity: 'nan' counts as a person; leave these cells empty if unknown",
    ]
