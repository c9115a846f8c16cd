"""Damaged and wrong data on the command line, through the entry point of `prepare` and `train`."""

import re

import pytest

from tests.fakes import tfds_faces
from tests.fakes.folders import write_celeba
from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy import cli, predict, prepare, train


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a command in this process -> (exit code, its last line on standard error)."""

    def start(verb, *flags):
        mains = {"prepare": prepare.main, "train": train.main, "predict": predict.main}
        code = cli.execute(verb, mains[verb], [*flags, f"--cache_dir={tmp_path / 'cache'}"])
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
