import numpy as np
import pytest

from tests.fakes.folders import CELEBA_ATTRIBUTES, LFW_ATTRIBUTES, LFW_SCORES, write_lfw
from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.data.preprocess import decode_content, prepare_pixels
from tf_mtl_privacy.data.sources.lfw import read_scores
from tf_mtl_privacy.errors import UsageError


def config(tmp_path, **options):
    given = {
        "dataset": "lfw",
        "data_dir": str(tmp_path / "faces"),
        "cache_dir": str(tmp_path / "cache"),
        "image_size": 32,
    }
    return DataConfig(**(given | options))


@pytest.mark.parametrize(
    "folder", ["lfw", "lfw-deepfunneled", "lfw-deepfunneled/lfw-deepfunneled", "."]
)
def test_scores_become_labels_for_testing_alone(tmp_path, folder):
    write_lfw(tmp_path / "faces", folder)
    dataset = open_dataset(config(tmp_path))
    assert {k: len(v) for k, v in dataset.rows.items()} == {"train": 0, "validation": 0, "test": 4}
    labels = dataset.labels("test")
    assert labels.business["gender"].tolist() == [1, 0, 1, 1]
    assert labels.business["expression"].tolist() == [1, 0, 1, 0]
    # The largest of Child, Youth, Middle Aged, Senior: Youth, Child, Middle Aged, Senior.
    assert labels.business["age"].tolist() == [1, 1, 0, 0]
    assert dataset.task_classes["age"] == ("not_Young", "Young")
    assert dataset.person.tolist() == [0, 0, 1, 2]
    assert dataset.keys.tolist()[3] == "Cy_Young_Jr/Cy_Young_Jr_0001.jpg"
    assert "classifier scores" in dataset.notes[0]
    assert all(image.any() for image in dataset.batch(np.arange(4)).image)


def test_age_groups_and_celeba_names_are_attributes(tmp_path):
    write_lfw(tmp_path / "faces")
    dataset = open_dataset(config(tmp_path, tasks="group=age_group,bags=Bags_Under_Eyes"))
    assert dataset.labels("test").business["group"].tolist() == [1, 0, 2, 3]
    assert dataset.task_classes["group"] == ("Child", "Youth", "Middle_Aged", "Senior")
    assert dataset.labels("test").business["bags"].tolist() == [1, 0, 1, 0]


def test_the_official_table_is_read_whole(tmp_path):
    path = write_lfw(tmp_path / "faces")
    people, keys, scores, names = read_scores(path)
    assert scores.shape == (4, 73) and people.tolist()[3] == "Cy_Young_Jr"
    assert keys.tolist()[:2] == ["Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg"]
    # Read by NumPy as the comment and header lines say: text, a number, then scores.
    columns = range(2, 2 + len(LFW_ATTRIBUTES))
    np.testing.assert_array_equal(scores, np.loadtxt(path, delimiter="\t", usecols=columns))
    assert scores[0, names.index("Male")] == LFW_SCORES["Male"][0]
    # All but Attractive and Young of CelebA's attributes, under the same names.
    assert set(CELEBA_ATTRIBUTES) - set(names) == {"Attractive", "Young"}


def test_an_editor_on_windows_changes_nothing(tmp_path):
    path = write_lfw(tmp_path / "faces")
    before = read_scores(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = read_scores(path)
    assert before[3] == after[3] and (before[2] == after[2]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("imagenum", "number"), "expected a header line"),
        (
            lambda s: s.replace("Bo Diaz\t1\t", "Bo Diaz\t"),
            "line 5: expected a person, a number and 73",
        ),
        (lambda s: s.replace("Diaz\t1\t2\t", "Diaz\t1\tnan\t"), "line 5: expected a person"),
        (lambda s: s.replace("Diaz\t1\t2\t", "Diaz\t1\thigh\t"), "line 5: expected a person"),
        (lambda s: "\n".join(s.splitlines()[:2]), "no row"),
        (lambda s: "", "expected a header line"),
    ],
)
def test_a_broken_table_is_named_by_line(tmp_path, change, message):
    path = write_lfw(tmp_path / "faces")
    path.write_text(change(path.read_text()))
    with pytest.raises(UsageError, match=message) as caught:
        open_source(config(tmp_path)).load()
    assert "lfw_attributes.txt" in str(caught.value)


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        open_source(config(tmp_path))
    (tmp_path / "faces").mkdir()
    with pytest.raises(UsageError, match=r"no lfw/Person_Name/Person_Name_0001.jpg"):
        open_source(config(tmp_path))
    write_lfw(tmp_path / "faces").unlink()
    with pytest.raises(UsageError, match=r"no file lfw_attributes.txt"):
        open_source(config(tmp_path))


def test_the_usual_crop_is_the_inner_187_pixels(tmp_path):
    write_lfw(tmp_path / "faces")
    usual, center = (open_dataset(config(tmp_path, crop=c)) for c in ("auto", "center"))
    # 250 * 3 // 4 = 187, from pixel 31 on.
    expected = prepare_pixels(decoded(0)[31:218, 31:218], 32, "none").numpy()
    np.testing.assert_array_equal(usual.store.images(np.array([0]))[0], expected)
    assert usual.fingerprint != center.fingerprint
    assert usual.fingerprint == open_dataset(config(tmp_path, crop="inner")).fingerprint


def decoded(row):
    return decode_content(encoded(picture(row, 250, 250), "JPEG", quality=92))


def changed(tmp_path, kind):
    """LFW as people have it -> the folder to name."""
    path = write_lfw(tmp_path / "faces")
    root = path.parent
    if kind == "png":
        for old in sorted(root.glob("lfw/*/*.jpg")):
            row = sorted(root.glob("lfw/*/*.*")).index(old)
            old.with_suffix(".png").write_bytes(encoded(picture(row, 250, 250), "PNG"))
            old.unlink()
    elif kind == "quoted":
        lines = [line.split("\t") for line in path.read_text().splitlines()[2:]]
        rows = ["\t".join(f'"{cell}"' for cell in cells) for cells in lines]
        path.write_text("\n".join([*path.read_text().splitlines()[:2], *rows]) + "\n")
    elif kind in ("csv", "semicolon"):
        lines = path.read_text().splitlines()[1:]
        mark = "," if kind == "csv" else ";"
        text = "\n".join(line.removeprefix("#\t").replace("\t", mark) for line in lines)
        path.unlink()
        path.with_suffix(".csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    elif kind == "pictures":
        return root / "lfw"
    elif kind == "above":
        (tmp_path / "above").mkdir()
        root.rename(tmp_path / "above" / "lfw-dataset")
        return tmp_path / "above"
    return root


@pytest.mark.parametrize(
    "kind", ["as it is", "png", "quoted", "csv", "semicolon", "pictures", "above"]
)
def test_people_have_it_otherwise(tmp_path, kind):
    root = changed(tmp_path, kind)
    dataset = open_dataset(config(tmp_path, data_dir=str(root)))
    labels = dataset.labels("test")
    assert labels.business["gender"].tolist() == [1, 0, 1, 1]
    assert labels.business["age"].tolist() == [1, 1, 0, 0]
    assert dataset.person.tolist() == [0, 0, 1, 2]
    assert dataset.keys.tolist()[3] == "Cy_Young_Jr/Cy_Young_Jr_0001.jpg"
    assert dataset.store.meta["damaged"] == [] and dataset.store.meta["warnings"] == []
    for row in range(4):
        expected = prepare_pixels(picture(row, 250, 250)[31:218, 31:218], 32, "none").numpy()
        assert np.abs(dataset.store.images(np.array([row]))[0].astype(int) - expected).mean() < 3


@pytest.mark.parametrize("name", ["lfw.tgz", "lfw-deepfunneled.tgz", "archive.zip"])
def test_an_archive_that_is_not_unpacked_is_named(tmp_path, name):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no lfw/Person_Name") as caught:
        open_source(config(tmp_path))
    assert f"; unpack {tmp_path / 'faces' / name} in its folder" in str(caught.value)
