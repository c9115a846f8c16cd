"""`python -m tf_mtl_privacy.prepare`, as a user runs it."""

import pytest

from tests.fakes.folders import write_celeba, write_lfw
from tests.fakes.pictures import encoded, picture


@pytest.fixture
def prepare(loaded, tmp_path):
    def start(*flags):
        return loaded("tf_mtl_privacy.prepare", f"--cache_dir={tmp_path / 'cache'}", *flags)

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
    again = prepare(*flags, "--verify")
    assert again.stdout.startswith("already prepared: celeba") and again.returncode == 0

    def checksum(run):
        return next(line for line in run.stdout.splitlines() if line.startswith("checksum:"))

    assert checksum(again) == checksum(first) + " (verified)"
    images = next((tmp_path / "cache").glob("celeba-*/images.u8"))
    content = bytearray(images.read_bytes())
    content[100] ^= 1
    images.write_bytes(content)
    spoilt = prepare(*flags, "--verify")
    assert spoilt.returncode == 1 and "checksum differs" in spoilt.stderr


def test_requests_that_are_wrong_end_with_2_and_one_line(prepare, tmp_path):
    run = prepare("--dataset=celeba", f"--data_dir={tmp_path / 'gone'}")
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "no such folder" in run.stderr
    write_celeba(tmp_path / "celeba")
    run = prepare("--dataset=celeba", f"--data_dir={tmp_path / 'celeba'}", "--tasks=gender=Mal")
    assert run.returncode == 2 and "did you mean Male" in run.stderr


def test_data_without_a_private_label_can_be_prepared_and_links_in_a_circle_do_not_matter(
    prepare, tmp_path
):
    write_lfw(tmp_path / "lfw")
    (tmp_path / "lfw" / "lfw" / "again").symlink_to(tmp_path / "lfw")
    (tmp_path / "lfw" / "self.jpg").symlink_to(tmp_path / "lfw" / "self.jpg")
    run = prepare("--dataset=lfw", f"--data_dir={tmp_path / 'lfw'}")
    assert run.returncode == 0, run.stderr
    assert "rows:     train 0, validation 0, test 4" in run.stdout
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    run = prepare("--dataset=lfw", f"--data_dir={loop}")
    assert run.returncode == 2 and run.stderr.endswith("loop: no such folder\n")


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
