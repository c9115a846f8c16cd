import re

import numpy as np
import pytest

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


def test_pictures_labels_and_partition_are_those_of_the_files(tmp_path, truth):
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


def test_one_store_holds_all_forty_attributes(tmp_path):
    write_celeba(tmp_path / "celeba")
    store = open_store(config(tmp_path))
    assert list(store.table.attributes) == CELEBA_ATTRIBUTES
    other = config(tmp_path, tasks="bald=Bald", private_label="Wearing_Hat")
    assert open_store(other, prepare=False).folder == store.folder
    whole = config(tmp_path, crop="none")
    with pytest.raises(RunError, match="no prepared store"):
        open_store(whole, prepare=False)


def test_identities_are_held_out_by_image(tmp_path):
    write_celeba(tmp_path / "celeba", count=40, people=4)
    dataset = open_dataset(config(tmp_path, private_label="identity", num_identities=3))
    assert dataset.private_classes == ("person1", "person2", "person3")
    for split, each in (("train", 7), ("validation", 1), ("test", 2)):
        private = dataset.labels(split).private
        assert np.bincount(private[private >= 0]).tolist() == [each] * 3


def test_files_that_are_not_needed_may_be_missing(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    truth["tables"]["identity_CelebA.txt"].unlink()
    truth["tables"]["list_landmarks_align_celeba.txt"].unlink()
    dataset = open_dataset(config(tmp_path))
    assert dataset.person is None and dataset.landmarks is None
    with pytest.raises(UsageError, match=r"no file identity_CelebA.txt \(CelebA's layout\)"):
        open_source(config(tmp_path, private_label="identity"))


def test_a_table_in_another_order_is_put_in_order(tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    path = truth["tables"]["list_eval_partition.txt"]
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    dataset = open_dataset(config(tmp_path))
    assert dataset.rows["test"].tolist() == np.flatnonzero(truth["partition"] == 2).tolist()


def test_an_image_without_a_row_is_counted_and_a_row_without_an_image_is_damaged(tmp_path):
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


def test_the_store_changes_with_tables_and_images(tmp_path):
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
    (ATTRIBUTES, ("000004", "000003"), "line 6: 000003.jpg stands here a second time"),
    (ATTRIBUTES, ("(?s).*", ""), "the file is empty"),
    (PARTITION, ("(000002.jpg) +0", r"\1 3"), "line 2: expected 0, 1 or 2, got '3'"),
    (PARTITION, ("^.*\n", ""), "no row for 000001.jpg"),
    (IDENTITY, ("(000005.jpg) +1", r"\1 x"), "line 5: expected a whole number, got 'x'"),
    (IDENTITY, ("(000005.jpg) +1", r"\1 9999999999"), "line 5: a number is too large"),
    (LANDMARKS, (r" \d+\n$", "\n"), "line 22: expected a file name and 10"),
]


@pytest.mark.parametrize(("name", "change", "message"), BROKEN)
def test_a_broken_table_is_named_by_file_and_line(tmp_path, name, change, message):
    path = write_celeba(tmp_path / "celeba")["tables"][name]
    before = path.read_text()
    path.write_text(re.sub(*change, before, count=1))
    assert path.read_text() != before
    with pytest.raises(UsageError, match=message) as caught:
        open_source(config(tmp_path)).load()
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_empty_folders(tmp_path):
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


def test_a_limit_on_rows_is_a_fixed_choice(tmp_path):
    write_celeba(tmp_path / "celeba")
    chosen = [open_dataset(config(tmp_path, train_rows=4)).rows["train"] for _ in range(2)]
    everything = open_dataset(config(tmp_path)).rows["train"]
    np.testing.assert_array_equal(*chosen)
    assert len(chosen[0]) == 4 and set(chosen[0]) < set(everything)
