"""CelebA: the official layout, and the layouts of editors, Kaggle and archives."""

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
from tf_mtl_privacy.errors import RunError, UsageError

SIZE = 32


def config(tmp_path, **options):
    given = {
        "dataset": "celeba",
        "data_dir": str(tmp_path / "celeba"),
        "cache_dir": str(tmp_path / "cache"),
        "image_size": SIZE,
    }
    return DataConfig(**(given | options))


@pytest.fixture(params=[False, True], ids=["flat", "official"])
def truth(tmp_path, request):
    return write_celeba(tmp_path / "celeba", official=request.param)


def test_celeba_pictures_labels_and_partition_match_the_files(tmp_path, truth):
    dataset = open_dataset(config(tmp_path))
    for code, split in enumerate(("train", "validation", "test")):
        assert dataset.rows[split].tolist() == np.flatnonzero(truth["partition"] == code).tolist()
    names = dict.fromkeys(("gender", "age", "expression"))
    names.update(gender="Male", age="Young", expression="Smiling")
    for task, name in names.items():
        column = truth["attributes"][:, CELEBA_ATTRIBUTES.index(name)]
        np.testing.assert_array_equal(dataset.all_labels.business[task], column)
        assert dataset.task_classes[task] == (f"not_{name}", name)
    columns = [CELEBA_ATTRIBUTES.index(n) for n in ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes")]
    np.testing.assert_array_equal(
        dataset.all_labels.private, truth["attributes"][:, columns] @ [4, 2, 1]
    )
    assert dataset.private_classes[6] == "Eyeglasses=1,Narrow_Eyes=1,Bags_Under_Eyes=0"
    np.testing.assert_array_equal(dataset.person, truth["identity"])
    batch = dataset.batch(np.array([3, 17]))
    for image, seed in zip(batch.image, (3, 17), strict=True):
        # The file is a JPEG of the picture: equal but for the compression.
        expected = prepare_pixels(picture(seed), SIZE, "center").numpy()
        assert np.abs(image.astype(int) - expected).mean() < 3
    np.testing.assert_allclose(
        dataset.landmarks, map_points(truth["landmarks"], 218, 178, SIZE, "center")
    )
    assert dataset.landmarks[0, 0] == pytest.approx(
        (truth["landmarks"][0, 0] + 0.5) * 32 / 178 - 0.5
    )
    assert dataset.landmarks[0, 1] == pytest.approx(
        (truth["landmarks"][0, 1] - 20 + 0.5) * 32 / 178 - 0.5
    )


def test_celeba_store_has_all_forty_attributes(tmp_path):
    write_celeba(tmp_path / "celeba")
    store = open_store(config(tmp_path))
    assert list(store.table.attributes) == CELEBA_ATTRIBUTES
    other = config(tmp_path, tasks="bald=Bald", private_label="Wearing_Hat")
    assert open_store(other, prepare=False).folder == store.folder
    whole = config(tmp_path, crop="none")
    with pytest.raises(RunError, match="no prepared store"):
        open_store(whole, prepare=False)


def test_celeba_identities_are_held_out_by_image(tmp_path):
    write_celeba(tmp_path / "celeba", count=40, people=4)
    dataset = open_dataset(config(tmp_path, private_label="identity", num_identities=3))
    assert dataset.private_classes == ("person1", "person2", "person3")
    for split, each in (("train", 7), ("validation", 1), ("test", 2)):
        private = dataset.labels(split).private
        assert np.bincount(private[private >= 0]).tolist() == [each] * 3


def test_celeba_unneeded_files_may_be_missing(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    truth["tables"]["identity_CelebA.txt"].unlink()
    truth["tables"]["list_landmarks_align_celeba.txt"].unlink()
    dataset = open_dataset(config(tmp_path))
    assert dataset.person is None and dataset.landmarks is None
    with pytest.raises(UsageError, match=r"no file identity_CelebA.txt \(CelebA's layout\)"):
        open_source(config(tmp_path, private_label="identity"))


def test_celeba_table_in_another_order_is_aligned(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    path = truth["tables"]["list_eval_partition.txt"]
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    dataset = open_dataset(config(tmp_path))
    assert dataset.rows["test"].tolist() == np.flatnonzero(truth["partition"] == 2).tolist()


def test_celeba_images_without_rows_are_counted_and_rows_without_images_damaged(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    (truth["images"] / "000003.jpg").rename(truth["images"] / "extra.jpg")
    store = open_store(config(tmp_path, max_damaged=0.05))
    assert store.meta["damaged"] == [[2, "000003.jpg", "no such file"]]
    assert store.meta["warnings"] == [
        "1 images of img_align_celeba have no row in list_attr_celeba.txt"
    ]
    with pytest.raises(RunError, match=r"1 damaged.*max_damaged=0.01.*000003.jpg: no such file"):
        (truth["images"] / "another.jpg").write_bytes(b"")
        open_store(config(tmp_path))


def test_celeba_fingerprint_changes_with_tables_and_images(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    prints = [open_source(config(tmp_path)).fingerprint()]
    path = truth["tables"]["list_attr_celeba.txt"]
    before = path.read_text()
    path.write_text(before.replace("-1", " 1", 1))
    prints.append(open_source(config(tmp_path)).fingerprint())
    path.write_text(before)
    assert open_source(config(tmp_path)).fingerprint() == prints[0]
    (truth["images"] / "000003.jpg").write_bytes(b"other")
    prints.append(open_source(config(tmp_path)).fingerprint())
    assert len(set(prints)) == 3


ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
IDENTITY, LANDMARKS = "identity_CelebA.txt", "list_landmarks_align_celeba.txt"
BROKEN = [
    (ATTRIBUTES, ("^20\n", "21\n"), "line 1: says 21 rows, there are 20"),
    (ATTRIBUTES, ("^20\n", ""), "line 1: expected the number of rows, got '5_o_Cl"),
    (ATTRIBUTES, ("5_o.*\n", ""), "line 2: expected different column names"),
    (ATTRIBUTES, ("Young", ""), "line 3: expected a file name and 39 values, got 41"),
    (ATTRIBUTES, ("(000004.jpg) +-?1", r"\1 2"), "line 6: expected -1 or 1, got '2'"),
    (ATTRIBUTES, ("000004", "000003"), "line 6: 000003.jpg is repeated"),
    (ATTRIBUTES, ("(?s).*", ""), "the file is empty"),
    (PARTITION, ("(000002.jpg) +0", r"\1 3"), "line 2: expected 0, 1 or 2, got '3'"),
    (PARTITION, ("^.*\n", ""), "no row for 000001.jpg"),
    (IDENTITY, ("(000005.jpg) +1", r"\1 x"), "line 5: expected a whole number, got 'x'"),
    (IDENTITY, ("(000005.jpg) +1", r"\1 9999999999"), "line 5: a number is too large"),
    (LANDMARKS, (r" \d+\n$", "\n"), "line 22: expected a file name and 10"),
]


@pytest.mark.parametrize(("name", "change", "message"), BROKEN)
def test_celeba_broken_table_is_named_by_file_and_line(tmp_path, name, change, message):
    path = write_celeba(tmp_path / "celeba")["tables"][name]
    before = path.read_text()
    path.write_text(re.sub(*change, before, count=1))
    assert path.read_text() != before
    with pytest.raises(UsageError, match=message) as caught:
        open_source(config(tmp_path)).load()
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_celeba_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--data_dir=.*: no such folder"):
        open_source(config(tmp_path))
    (tmp_path / "celeba").mkdir()
    with pytest.raises(UsageError, match="no folder img_align_celeba in it"):
        open_source(config(tmp_path))
    (tmp_path / "celeba" / "img_align_celeba").mkdir()
    with pytest.raises(UsageError, match="no picture"):
        open_source(config(tmp_path))
    truth = write_celeba(tmp_path / "celeba")
    truth["tables"]["list_eval_partition.txt"].unlink()
    with pytest.raises(UsageError, match=r"no file list_eval_partition.txt"):
        open_source(config(tmp_path))


def test_celeba_limited_rows_are_a_fixed_choice(tmp_path):
    write_celeba(tmp_path / "celeba")
    chosen = [open_dataset(config(tmp_path, train_rows=4)).rows["train"] for _ in range(2)]
    everything = open_dataset(config(tmp_path)).rows["train"]
    np.testing.assert_array_equal(*chosen)
    assert len(chosen[0]) == 4 and set(chosen[0]) < set(everything)


def check(dataset, truth, tolerance=3.0, with_people=True):
    """Compares the data set with the pictures and labels that `write_celeba` wrote."""
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
def test_celeba_tables_saved_by_an_editor_are_read(tmp_path, change, official):
    truth = write_celeba(tmp_path / "celeba", official=official)
    change(truth)
    check(open_dataset(config(tmp_path)), truth)


@pytest.mark.parametrize("folder", ["img_align_celeba_png", "img_align_celeba"])
@pytest.mark.parametrize("official", [False, True])
def test_celeba_png_pictures_are_found_by_their_stem(tmp_path, folder, official):
    truth = write_celeba(tmp_path / "celeba", official=official)
    celeba_variants.as_png(truth, folder)
    # PNG keeps the pixels.
    check(open_dataset(config(tmp_path)), truth, tolerance=0.0)


def test_celeba_capital_extensions_are_found(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    for name in truth["names"]:
        (truth["images"] / name).rename(truth["images"] / name.replace(".jpg", ".JPG"))
    check(open_dataset(config(tmp_path)), truth)


def test_celeba_kaggle_layout_is_read(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    celeba_variants.as_kaggle(truth)
    check(open_dataset(config(tmp_path)), truth, with_people=False)
    with pytest.raises(UsageError, match=r"no file identity_CelebA.txt .*nor identity_CelebA.csv"):
        open_source(config(tmp_path, private_label="identity"))


@pytest.mark.parametrize("separator", [",", ";"])
def test_celeba_identities_as_csv_are_read(tmp_path, separator):
    truth = write_celeba(tmp_path / "celeba")
    celeba_variants.as_kaggle(truth)
    rows = zip(truth["names"], truth["identity"], strict=True)
    text = "\n".join(f"{name}{separator}{who}" for name, who in rows)
    (tmp_path / "celeba" / "identity_CelebA.csv").write_text(f"image_id{separator}identity\n{text}")
    check(open_dataset(config(tmp_path)), truth)


@pytest.mark.parametrize("data_dir", [".", "celeba", "celeba/img_align_celeba"])
@pytest.mark.parametrize("kaggle", [False, True])
def test_celeba_folder_above_and_picture_folder_are_accepted(tmp_path, data_dir, kaggle):
    truth = write_celeba(tmp_path / "data" / "celeba")
    (tmp_path / "data" / "other").mkdir()
    if kaggle:
        celeba_variants.as_kaggle(truth)
    where = str(tmp_path / "data" / data_dir)
    check(open_dataset(config(tmp_path, data_dir=where)), truth, with_people=not kaggle)


def test_celeba_two_candidate_folders_are_refused(tmp_path):
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
def test_packed_archive_is_named(tmp_path, official, name):
    truth = write_celeba(tmp_path / "celeba", official=official)
    path = celeba_variants.as_zip(truth, name)
    with pytest.raises(UsageError) as caught:
        open_source(config(tmp_path))
    assert "no folder img_align_celeba" in str(caught.value)
    assert f"; unpack {path} in its folder" in str(caught.value)


def test_celeba_archives_elsewhere_are_named(tmp_path):
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


def test_celeba_missing_identities_are_unknown(tmp_path, caplog):
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
    assert warning.startswith("identity_CelebA.txt has no person for 4 of 40 rows")
    assert warning in caplog.text
    people = open_dataset(config(tmp_path, private_label="identity", num_identities=4))
    assert (people.all_labels.private[[3, 8, 9, 10]] == -1).all()
    assert (people.all_labels.private[:3] >= 0).all()


def test_celeba_incomplete_landmarks_are_ignored(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    path = truth["tables"][LANDMARKS]
    lines_without(path, 5)
    path.write_text(path.read_text().replace("20\n", "19\n", 1))
    store = open_store(config(tmp_path))
    assert store.table.landmarks is None
    assert "no row for 1 images" in store.meta["warnings"][0]


def test_celeba_fingerprint_does_not_depend_on_the_folder(tmp_path):
    write_celeba(tmp_path / "celeba")
    before = open_source(config(tmp_path)).fingerprint()
    shutil.move(tmp_path / "celeba", tmp_path / "data" / "celeba")
    assert open_source(config(tmp_path, data_dir=str(tmp_path / "data"))).fingerprint() == before
