import numpy as np
import pytest

from tests.fakes import tfds_faces
from tests.fakes.pictures import picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset, preparing
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.preprocess import prepare_pixels
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


def test_rows_are_those_of_the_splits(data_dir, tmp_path, monkeypatch):
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


def test_without_validation_rows_some_of_train_are_held_out(tmp_path):
    tfds_faces.write(tmp_path / "tfds", sizes={"train": 30, "test": 5})
    dataset = open_dataset(config(tmp_path / "tfds", tmp_path))
    assert dataset.rows["test"].tolist() == list(range(30, 35))
    assert len(dataset.rows["validation"]) >= 1
    assert len(dataset.rows["validation"]) + len(dataset.rows["train"]) == 30
    assert "no validation rows" in dataset.notes[0]


def test_any_rows_can_be_read(data_dir, tmp_path):
    source = open_source(config(data_dir, tmp_path))
    found = source.read(np.array([2, 7, 8, 9, 16]))
    seeds = [2, 7, 8, 1000, 2003]
    for image, seed in zip(found.images, seeds, strict=True):
        np.testing.assert_array_equal(image, prepare_pixels(picture(seed), 32, "center").numpy())
    assert found.reasons == [""] * 5


@pytest.mark.parametrize("name", ["fake_facs", "celeb_a", "fake_faces/config"])
def test_a_wrong_name_says_what_is_there(data_dir, tmp_path, name):
    with pytest.raises(UsageError) as caught:
        open_source(config(data_dir, tmp_path, dataset=f"tfds:{name}", private_label="none"))
    text = str(caught.value)
    assert f"--dataset=tfds:{name}" in text and "found: fake_faces" in text and "\n" not in text


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone: no such folder"):
        open_source(config(tmp_path / "gone", tmp_path))


def test_an_unknown_attribute_lists_what_is_there(data_dir, tmp_path):
    with pytest.raises(UsageError, match=r"did you mean Male.*there are: Male, Smiling, mood"):
        open_dataset(config(data_dir, tmp_path, tasks="gender=male", private_label="none"))


def test_identities_are_not_there(data_dir, tmp_path):
    with pytest.raises(UsageError, match="has no identities"):
        open_dataset(config(data_dir, tmp_path, private_label="identity"))
