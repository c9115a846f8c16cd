"""CelebA as people have it: saved by editors, as PNG, from Kaggle, not unpacked, one folder off."""

import re
import shutil

import numpy as np
import pytest

from tests.fakes import celeba_variants
from tests.fakes.folders import CELEBA_ATTRIBUTES, write_celeba
from tests.fakes.pictures import picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset, open_store
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.preprocess import map_points, prepare_pixels
from tf_mtl_privacy.errors import UsageError

IDENTITY, LANDMARKS = "identity_CelebA.txt", "list_landmarks_align_celeba.txt"


def config(tmp_path, **options):
    given = {
        "dataset": "celeba",
        "data_dir": str(tmp_path / "celeba"),
        "cache_dir": str(tmp_path / "cache"),
        "image_size": 32,
    }
    return DataConfig(**(given | options))


def check(dataset, truth, tolerance=3.0, with_people=True):
    """Compares everything with what `write_celeba` drew."""
    for code, split in enumerate(("train", "validation", "test")):
        assert dataset.rows[split].tolist() == np.flatnonzero(truth["partition"] == code).tolist()
    for task, name in (("gender", "Male"), ("age", "Young"), ("expression", "Smiling")):
        column = truth["attributes"][:, CELEBA_ATTRIBUTES.index(name)]
        np.testing.assert_array_equal(dataset.all_labels.business[task], column)
    columns = [CELEBA_ATTRIBUTES.index(n) for n in ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes")]
    np.testing.assert_array_equal(
        dataset.all_labels.private, truth["attributes"][:, columns] @ [4, 2, 1]
    )
    if with_people:
        np.testing.assert_array_equal(dataset.person, truth["identity"])
    else:
        assert dataset.person is None
    np.testing.assert_allclose(
        dataset.landmarks, map_points(truth["landmarks"], 218, 178, 32, "center")
    )
    assert dataset.keys.tolist() == truth["names"]
    for row in (0, 7, 19):
        expected = prepare_pixels(picture(row), 32, "center").numpy()
        image = dataset.store.images(np.array([row]))[0]
        assert np.abs(image.astype(int) - expected).mean() <= tolerance
    assert dataset.store.meta["damaged"] == [] and dataset.store.meta["warnings"] == []


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("change", [celeba_variants.with_bom, celeba_variants.quoted])
def test_tables_that_were_saved_by_an_editor(tmp_path, change, official):
    truth = write_celeba(tmp_path / "celeba", official=official)
    change(truth)
    check(open_dataset(config(tmp_path)), truth)


@pytest.mark.parametrize("folder", ["img_align_celeba_png", "img_align_celeba"])
@pytest.mark.parametrize("official", [False, True])
def test_png_pictures_are_found_by_their_stem(tmp_path, folder, official):
    truth = write_celeba(tmp_path / "celeba", official=official)
    celeba_variants.as_png(truth, folder)
    # PNG keeps the pixels.
    check(open_dataset(config(tmp_path)), truth, tolerance=0.0)


def test_endings_in_capitals_are_found(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    for name in truth["names"]:
        (truth["images"] / name).rename(truth["images"] / name.replace(".jpg", ".JPG"))
    check(open_dataset(config(tmp_path)), truth)


def test_kaggle_has_csv_tables_and_the_folder_twice(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    celeba_variants.as_kaggle(truth)
    check(open_dataset(config(tmp_path)), truth, with_people=False)
    with pytest.raises(UsageError, match=r"no file identity_CelebA.txt .*nor identity_CelebA.csv"):
        open_source(config(tmp_path, private_label="identity"))


@pytest.mark.parametrize("separator", [",", ";"])
def test_identities_may_be_a_csv_file_as_well(tmp_path, separator):
    truth = write_celeba(tmp_path / "celeba")
    celeba_variants.as_kaggle(truth)
    rows = zip(truth["names"], truth["identity"], strict=True)
    text = "\n".join(f"{name}{separator}{who}" for name, who in rows)
    (tmp_path / "celeba" / "identity_CelebA.csv").write_text(f"image_id{separator}identity\n{text}")
    check(open_dataset(config(tmp_path)), truth)


@pytest.mark.parametrize("data_dir", [".", "celeba", "celeba/img_align_celeba"])
@pytest.mark.parametrize("kaggle", [False, True])
def test_the_folder_above_and_that_of_the_pictures_will_do(tmp_path, data_dir, kaggle):
    truth = write_celeba(tmp_path / "data" / "celeba")
    (tmp_path / "data" / "other").mkdir()
    if kaggle:
        celeba_variants.as_kaggle(truth)
    where = str(tmp_path / "data" / data_dir)
    check(open_dataset(config(tmp_path, data_dir=where)), truth, with_people=not kaggle)


def test_two_folders_below_must_be_told_apart(tmp_path):
    for name in ("celeba", "copy"):
        write_celeba(tmp_path / "data" / name)
    with pytest.raises(UsageError, match=r"several folders .* \(celeba, copy\); name one"):
        open_source(config(tmp_path, data_dir=str(tmp_path / "data")))


@pytest.mark.parametrize(
    ("official", "name"),
    [
        (False, "img_align_celeba.zip"),
        (True, "img_align_celeba.zip"),
        (True, "img_align_celeba_png.7z.001"),
        (False, "archive.zip"),
    ],
)
def test_an_archive_that_is_not_unpacked_is_named(tmp_path, official, name):
    truth = write_celeba(tmp_path / "celeba", official=official)
    path = celeba_variants.as_zip(truth, name)
    with pytest.raises(UsageError) as caught:
        open_source(config(tmp_path))
    assert "no folder img_align_celeba" in str(caught.value)
    assert f"; unpack {path} in its folder" in str(caught.value)


def test_an_archive_in_the_pictures_folder_of_a_table_or_as_data_dir_is_named_too(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    path = celeba_variants.as_zip(truth)
    with pytest.raises(UsageError, match=r"img_align_celeba.zip: is an archive; unpack it"):
        open_source(config(tmp_path, data_dir=str(path)))
    truth["images"].mkdir()
    inside = truth["images"] / path.name
    path.rename(inside)
    with pytest.raises(UsageError, match="no picture") as caught:
        open_source(config(tmp_path))
    assert f"unpack {inside}" in str(caught.value)
    truth = write_celeba(tmp_path / "celeba")
    table = truth["tables"]["list_eval_partition.txt"]
    # As Kaggle hands out single files.
    packed = table.with_name("list_eval_partition.csv.zip")
    table.rename(packed)
    with pytest.raises(UsageError, match=r"no file list_eval_partition.txt") as caught:
        open_source(config(tmp_path))
    assert f"; unpack {packed}" in str(caught.value)


def lines_without(path, *rows):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for k, line in enumerate(lines) if k not in rows) + "\n")


def test_identities_that_are_missing_stop_nobody(tmp_path, caplog):
    truth = write_celeba(tmp_path / "celeba", count=40)
    path = truth["tables"][IDENTITY]
    lines_without(path, 3, 8)
    path.write_text(re.sub(r"(000010.jpg) +\d+", r"\1", path.read_text()))
    path.write_text(re.sub(r"(000011.jpg) +\d+", r"\1 nan", path.read_text()))
    dataset = open_dataset(config(tmp_path))
    expected = truth["identity"].copy()
    expected[[3, 8, 9, 10]] = -1
    np.testing.assert_array_equal(dataset.person, expected)
    (warning,) = dataset.store.meta["warnings"]
    assert warning.startswith("identity_CelebA.txt does not say who is in 4 of 40 rows")
    assert warning in caplog.text
    people = open_dataset(config(tmp_path, private_label="identity", num_identities=4))
    assert (people.all_labels.private[[3, 8, 9, 10]] == -1).all()
    assert (people.all_labels.private[:3] >= 0).all()


def test_landmarks_that_are_missing_are_not_used(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    path = truth["tables"][LANDMARKS]
    lines_without(path, 5)
    path.write_text(path.read_text().replace("20\n", "19\n", 1))
    store = open_store(config(tmp_path))
    assert store.table.landmarks is None
    assert "no row for 1 images" in store.meta["warnings"][0]


def test_the_store_is_the_same_wherever_the_folder_lies(tmp_path):
    write_celeba(tmp_path / "celeba")
    before = open_source(config(tmp_path)).fingerprint()
    shutil.move(tmp_path / "celeba", tmp_path / "data" / "celeba")
    assert open_source(config(tmp_path, data_dir=str(tmp_path / "data"))).fingerprint() == before
