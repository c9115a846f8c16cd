import numpy as np
import pytest

from tests.fakes import tfds_faces
from tests.fakes.pictures import picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset, preparing
from tf_mtl_privacy.data.headers import PREPROCESS_VERSION
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.preprocess import prepare_pixels
from tf_mtl_privacy.data.sources import tfds
from tf_mtl_privacy.data.sources.base import fingerprint
from tf_mtl_privacy.data.splitting import SPLIT_VERSION
from tf_mtl_privacy.errors import UsageError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds_faces.write(folder)
    return folder


def config(data_dir, tmp_path, **options):
    given = {
        "dataset": "tfds:fake_faces",
        "data_dir": str(data_dir),
        "cache_dir": str(tmp_path / "cache"),
        "image_size": 32,
        "tasks": "mood=mood",
        "private_label": "attributes:Male,Smiling",
    }
    return DataConfig(**(given | options))


def test_tfds_rows_match_the_splits(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "_BLOCK_BYTES", 1)  # two blocks, read by two threads
    dataset = open_dataset(config(data_dir, tmp_path))
    assert {k: len(v) for k, v in dataset.rows.items()} == tfds_faces.SIZES
    assert dataset.task_classes == {"mood": ("calm", "glad", "sad")}
    for split, count in tfds_faces.SIZES.items():
        batch = dataset.batch(dataset.rows[split])
        for k in range(count):
            expected = tfds_faces.example(split, k)
            male, smiling = (int(expected["attributes"][a]) for a in ("Male", "Smiling"))
            assert batch.business["mood"][k] == expected["mood"]
            assert batch.private[k] == 2 * male + smiling
            pixels = prepare_pixels(expected["image"], 32, "center").numpy()
            np.testing.assert_array_equal(batch.image[k], pixels)


def test_without_validation_rows_part_of_train_is_held_out(tmp_path):
    tfds_faces.write(tmp_path / "tfds", sizes={"train": 30, "test": 5})
    dataset = open_dataset(config(tmp_path / "tfds", tmp_path))
    assert dataset.rows["test"].tolist() == list(range(30, 35))
    assert len(dataset.rows["validation"]) >= 1
    assert len(dataset.rows["validation"]) + len(dataset.rows["train"]) == 30
    assert "no validation rows" in dataset.notes[0]


def test_tfds_reads_any_rows(data_dir, tmp_path):
    source = open_source(config(data_dir, tmp_path))
    found = source.read(np.array([2, 7, 8, 9, 16]))
    seeds = [2, 7, 8, 1000, 2003]
    for image, seed in zip(found.images, seeds, strict=True):
        np.testing.assert_array_equal(image, prepare_pixels(picture(seed), 32, "center").numpy())
    assert found.reasons == [""] * 5


@pytest.mark.parametrize("name", ["fake_facs", "celeb_a", "fake_faces/config"])
def test_tfds_wrong_name_lists_data_sets(data_dir, tmp_path, name):
    with pytest.raises(UsageError) as caught:
        open_source(config(data_dir, tmp_path, dataset=f"tfds:{name}", private_label="none"))
    text = str(caught.value)
    assert f"--dataset=tfds:{name}" in text and "found: fake_faces" in text and "\n" not in text


def test_tfds_missing_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"gone: no such folder"):
        open_source(config(tmp_path / "gone", tmp_path))


def test_tfds_unknown_attribute_lists_attributes(data_dir, tmp_path):
    with pytest.raises(UsageError, match=r"did you mean Male.*there are: Male, Smiling, mood"):
        open_dataset(config(data_dir, tmp_path, tasks="gender=male", private_label="none"))


def test_tfds_has_no_identities(data_dir, tmp_path):
    with pytest.raises(UsageError, match="has no identities"):
        open_dataset(config(data_dir, tmp_path, private_label="identity"))


def test_tfds_whole_numbers_are_labels_named_by_value(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "_MAX_NUMBERS", 8)
    tfds_faces.write(tmp_path / "tfds", numbers=True)
    asked = {"tasks": "age=years,place=room", "private_label": "mood"}
    dataset = open_dataset(config(tmp_path / "tfds", tmp_path, **asked))
    assert dataset.task_classes == {"age": ("-1", "20", "30", "50"), "place": ("7", "8")}
    for split, count in tfds_faces.SIZES.items():
        labels = dataset.labels(split).business
        # 30, 20, 50, -1 by turns are the classes 2, 1, 3, 0.
        assert labels["age"].tolist() == [(2, 1, 3, 0)[k % 4] for k in range(count)]
        assert labels["place"].tolist() == [k % 2 for k in range(count)]
    # 3 k of nine rows: a number of the row and no label.
    assert dataset.store.meta["warnings"] == [
        "row left out: too many distinct whole numbers for a label (9)"
    ]
    with pytest.raises(UsageError, match=r"there are: Male, Smiling, mood, room, years"):
        open_dataset(config(tmp_path / "tfds", tmp_path, tasks="age=row", private_label="mood"))
    binned = config(tmp_path / "tfds", tmp_path, **asked, bins="years=0:25")
    assert open_dataset(binned).task_classes["age"] == ("below 0", "0 to 25", "25 and above")


def test_tfds_unused_whole_numbers_keep_the_fingerprint(tmp_path):
    tfds_faces.write(tmp_path / "tfds", numbers=True)
    source = open_source(config(tmp_path / "tfds", tmp_path))
    info = source._builder.info
    shards = [
        (name, info.splits[name].num_bytes, list(info.splits[name].shard_lengths))
        for name in tfds_faces.SIZES
    ]
    versions = (PREPROCESS_VERSION, SPLIT_VERSION)
    plain = fingerprint("fake_faces/1.0.0", 32, "center", versions, shards, 0)
    assert source.fingerprint() == plain
    asking = open_source(config(tmp_path / "tfds", tmp_path, tasks="age=years"))
    assert asking.fingerprint() != plain
