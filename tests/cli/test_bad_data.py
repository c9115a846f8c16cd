"""Damaged and wrong data on the command line, through the entry point of `prepare` and `train`."""

import re

import pytest

from tests.fakes import celeba_variants, tfds_faces
from tests.fakes.folders import CELEBA_ATTRIBUTES, write_celeba, write_csv
from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.cli.main import execute


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a command in this process -> (exit code, its last line on standard error)."""

    def start(verb, *flags):
        code = execute(verb, [*flags, f"--cache_dir={tmp_path / 'cache'}"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        lines = captured.err.splitlines() or [""]
        assert sum(line.startswith("error: ") for line in lines) == (code != 0)
        return code, lines[-1] if code else captured.out

    return start


@pytest.fixture
def celeba(tmp_path):
    return write_celeba(tmp_path / "celeba")


def flags(tmp_path, **options):
    options = {"dataset": "celeba", "data_dir": tmp_path / "celeba"} | options
    return [f"--{name}={value}" for name, value in options.items()]


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_a_missing_folder(command, tmp_path, verb):
    more = [f"--run_dir={tmp_path / 'run'}"] if verb == "train" else []
    code, line = command(verb, *flags(tmp_path), *more)
    assert code == 2 and "--data_dir=" in line and "no such folder" in line


def test_an_empty_folder(command, tmp_path):
    (tmp_path / "celeba").mkdir()
    code, line = command("prepare", *flags(tmp_path))
    assert code == 2 and "img_align_celeba" in line


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("5_o.*\n", "", "line 2"),
        ("^20\n", "21\n", "says 21 rows, there are 20"),
        ("(000004.jpg) +-?1", r"\1 2", "line 6"),
    ],
)
def test_an_attribute_file_with_a_wrong_header_count_or_row(
    command, celeba, tmp_path, pattern, replacement, message
):
    path = celeba["tables"]["list_attr_celeba.txt"]
    path.write_text(re.sub(pattern, replacement, path.read_text(), count=1))
    code, line = command("prepare", *flags(tmp_path))
    assert code == 2 and "list_attr_celeba.txt" in line and message in line


def test_an_image_without_a_row_is_told_and_a_row_without_an_image_is_counted(
    command, celeba, tmp_path
):
    (celeba["images"] / "000099.jpg").write_bytes(encoded(picture(1), "JPEG"))
    (celeba["images"] / "000003.jpg").unlink()
    code, shown = command("prepare", *flags(tmp_path, max_damaged=0.1))
    assert code == 0
    assert "damaged:  1" in shown and "000003.jpg" in shown
    assert re.search(r"warning: .*1 .*no row", shown) or "000099" in shown


DAMAGED = {
    "truncated": (lambda: encoded(picture(0), "JPEG")[:600], "truncated"),
    "not an image": (lambda: b"just a text that is long enough to be read", "not a"),
    "1x1": (lambda: encoded(picture(0)[:1, :1], "JPEG"), "1x1"),
    "8000x8000": (lambda: encoded(picture(0, 8000, 8000), "JPEG", quality=5), "8000x8000"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_pictures_that_cannot_be_used(command, celeba, tmp_path, kind):
    content, reason = DAMAGED[kind]
    (celeba["images"] / "000002.jpg").write_bytes(content())
    code, line = command("prepare", *flags(tmp_path))
    assert code == 1 and "1 damaged or missing among the 20 images" in line
    assert "000002.jpg" in line and reason in line
    code, shown = command("prepare", *flags(tmp_path, max_damaged=0.1))
    assert code == 0 and "damaged:  1" in shown


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA")])
def test_grey_cmyk_and_transparent_pictures_are_fine(command, celeba, tmp_path, kind, mode):
    (celeba["images"] / "000002.jpg").write_bytes(encoded(picture(0), kind, mode))
    code, shown = command("prepare", *flags(tmp_path))
    assert code == 0 and "damaged:  0" in shown


def test_a_wrong_tfds_name(command, tmp_path):
    tfds_faces.write(tmp_path / "tfds")
    code, line = command(
        "prepare",
        *flags(tmp_path, dataset="tfds:celeb_b", data_dir=tmp_path / "tfds", tasks="gender=Male"),
    )
    assert code == 2 and "celeb_b" in line


def test_identities_that_tfds_does_not_have(command, tmp_path):
    options = {"dataset": "tfds:celeb_a", "private_label": "identity"}
    code, line = command("prepare", *flags(tmp_path, **options))
    assert code == 2 and "identity" in line and "tfds:celeb_a" in line


def test_data_with_nothing_to_train_on(command, celeba, tmp_path):
    path = celeba["tables"]["list_eval_partition.txt"]
    path.write_text(re.sub(r"(jpg) +\d", r"\1 2", path.read_text()))
    code, line = command("train", *flags(tmp_path), f"--run_dir={tmp_path / 'run'}")
    assert code == 2 and "no train rows" in line


def test_classes_are_counted_and_what_looks_wrong_is_told(command, tmp_path):
    rows = [
        {
            "file": f"{k}.png",
            "mood": ("Glad", "glad", "sad", "nan")[k % 4],
            "years": str(20 + k),
            "split": ("train", "train", "validation", "test")[k % 4],
        }
        for k in range(48)
    ]
    write_csv(tmp_path / "faces", rows)
    given = {"dataset": "csv", "data_dir": tmp_path / "faces", "tasks": "mood=mood,age=years"}
    code, shown = command("prepare", *flags(tmp_path, **given))
    lines = shown.splitlines()
    assert code == 0
    assert "classes:  mood: Glad 12, glad 12, nan 12, sad 12" in lines
    assert "classes:  age: 20 1, 21 1, 22 1, 23 1, 24 1, 25 1, 26 1, 27 1, 28 1, 29 1, " in shown
    warnings = [line for line in lines if line.startswith("warning:  ")]
    assert warnings[0] == (
        "warning:  mood: the classes 'Glad', 'glad' differ in writing only and count as 2"
    )
    assert any("mood: 'nan' counts as a class" in line for line in warnings)
    assert any(
        "age: 48 classes, all of them numbers; --bins=ATTRIBUTE=32:44:55" in line
        for line in warnings
    )
    code, shown = command("prepare", *flags(tmp_path, **given, bins="years=30:60"))
    assert "classes:  age: below 30 10, 30 to 60 30, 60 and above 8" in shown
    code, line = command("prepare", *flags(tmp_path, **given, bins="years=60:30"))
    assert code == 2 and "--bins=years=60:30" in line


def test_an_archive_that_is_not_unpacked(command, celeba, tmp_path):
    path = celeba_variants.as_zip(celeba)
    code, line = command("prepare", *flags(tmp_path))
    assert code == 2 and f"; unpack {path} in its folder" in line


@pytest.mark.parametrize("change", [celeba_variants.with_bom, celeba_variants.as_kaggle])
def test_the_folder_above_a_celeba_that_an_editor_or_kaggle_wrote(
    command, celeba, tmp_path, change
):
    change(celeba)
    code, shown = command("prepare", *flags(tmp_path, data_dir=tmp_path))
    assert code == 0 and "damaged:  0" in shown
    male = int(celeba["attributes"][:, CELEBA_ATTRIBUTES.index("Male")].sum())
    assert f"classes:  gender: not_Male {20 - male}, Male {male}" in shown
