"""`python -m tf_mtl_privacy.prepare`, as a user runs it."""

import pytest

from tests.fakes.folders import write_celeba
from tests.fakes.pictures import encoded, picture


@pytest.fixture
def prepare(python, tmp_path):
    def start(*flags):
        return python("-m", "tf_mtl_privacy.prepare", f"--cache_dir={tmp_path / 'cache'}", *flags)

    return start


def test_it_says_what_it_did_and_does_it_once(prepare, tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    broken = truth["images"] / "000002.jpg"
    broken.write_bytes(broken.read_bytes()[:-100])
    flags = ["--dataset=celeba", f"--data_dir={tmp_path / 'celeba'}", "--max_damaged=0.1"]
    first = prepare(*flags)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("prepared: celeba, 20 rows of 64x64 pixels")
    assert "rows:     train 11, validation 4, test 4" in first.stdout
    assert "damaged:  1 (listed in" in first.stdout
    assert "000002.jpg: truncated JPEG" in first.stdout
    again = prepare(*flags)
    assert again.stdout.startswith("already prepared: celeba") and again.returncode == 0

    def checksum(run):
        return next(line for line in run.stdout.splitlines() if line.startswith("checksum:"))

    assert checksum(again) == checksum(first)


def test_requests_that_are_wrong_end_with_2_and_one_line(prepare, tmp_path):
    run = prepare("--dataset=celeba", f"--data_dir={tmp_path / 'gone'}")
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "no such folder" in run.stderr
    write_celeba(tmp_path / "celeba")
    run = prepare("--dataset=celeba", f"--data_dir={tmp_path / 'celeba'}", "--tasks=gender=Mal")
    assert run.returncode == 2 and "did you mean Male" in run.stderr


def test_too_many_damaged_pictures_end_with_1_and_one_line(prepare, tmp_path):
    truth = write_celeba(tmp_path / "celeba")
    for k, content in enumerate(
        [b"hello", encoded(picture(0)[:1, :1], "PNG"), encoded(picture(0), "JPEG")[:300]]
    ):
        (truth["images"] / f"00000{k + 1}.jpg").write_bytes(content)
    run = prepare("--dataset=celeba", f"--data_dir={tmp_path / 'celeba'}")
    assert run.returncode == 1, run.stderr
    assert (
        run.stderr.splitlines()[-1].startswith("error: 3 damaged") and "Traceback" not in run.stderr
    )
    assert "3 damaged or missing among the 20 images" in run.stderr
    assert "000002.jpg: 1x1 pixels, smaller than 8x8" in run.stderr
