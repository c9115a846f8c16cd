import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.data.headers import BadPicture, read_header
from tf_mtl_privacy.data.preprocess import prepare_content, read_picture
from tf_mtl_privacy.data.sources.base import list_images, read_files, require_images
from tf_mtl_privacy.errors import UsageError

FACE = picture(1)
JPEG, PNG = encoded(FACE, "JPEG"), encoded(FACE, "PNG")
PALETTE_BMP = encoded(FACE, "BMP", "P")


def empty_png(width, height):
    """A PNG whose header promises a picture that nobody would want to decode."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [(head[:4], head[4:]), *parts]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def many_scans(count):
    """A progressive JPEG whose last scan comes again and again."""
    content = encoded(FACE, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


BAD = {
    "JPEG with more than 100 scans": many_scans(1200),
    "empty file": b"",
    "not a JPEG": b"<html>not found</html>",
    "truncated header": JPEG[:100],
    r"truncated JPEG \(no end mark\)": JPEG[: len(JPEG) // 2],
    r"truncated PNG \(no end mark\)": PNG[: len(PNG) // 2],
    "cannot be decoded as BMP": encoded(FACE, "BMP")[:3000],
    "truncated PGM or PPM": encoded(FACE, "PPM")[:-1],
    "damaged JPEG header": JPEG[:2] + b"\x00" + JPEG[3:],
    "cannot be decoded as PNG": PNG[:200] + bytes(40) + PNG[240:],
    "BMP with 8 bits": PALETTE_BMP,
    "1x1 pixels, smaller than 8x8": encoded(FACE[:1, :1], "PNG"),
    "9x7 pixels, smaller than 8x8": encoded(FACE[:7, :9], "JPEG"),
    "8000x8000 pixels, more than 50 megapixels": empty_png(8000, 8000),
    "60000x60000 pixels, more than 50 megapixels": b"P5 60000 60000 255\n",
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_picture_has_its_reason(reason):
    with pytest.raises(BadPicture, match=reason):
        read_picture(BAD[reason], 32, "center")


@pytest.mark.parametrize("reason", [r for r in BAD if "PGM" not in r])
def test_the_exported_ops_refuse_it_too(reason):
    with pytest.raises(tf.errors.InvalidArgumentError):
        prepare_content(tf.constant(BAD[reason]), 32, "center")


def test_a_jpeg_of_8000x8000_is_refused_before_it_is_decoded():
    content = encoded(np.zeros((8000, 8000), np.uint8), "JPEG", quality=5)
    with pytest.raises(BadPicture, match="8000x8000"):
        read_picture(content, 32, "center")
    with pytest.raises(tf.errors.InvalidArgumentError, match="50 megapixels"):
        prepare_content(tf.constant(content), 32, "center")


def test_scans_are_those_that_a_decoder_meets():
    behind = many_scans(50) + b"\xff\xda" * 300
    seen = read_picture(behind, 32, "center")
    np.testing.assert_array_equal(seen, read_picture(many_scans(50), 32, "center"))
    with pytest.raises(BadPicture, match="100 scans"):
        read_header(many_scans(101))
    # An end mark inside of a comment ends nothing.
    content = many_scans(101)
    tables = content.index(b"\xff\xc4")
    with pytest.raises(BadPicture, match="100 scans"):
        read_header(content[:tables] + b"\xff\xfe\x00\x04\xff\xd9" + content[tables:])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99, 1.0])
def test_a_jpeg_cut_anywhere_is_damaged(share):
    cut = int(len(JPEG) * share) - 1
    # The end mark of a thumbnail inside the Exif segment must not pass for that of the picture.
    thumbnail = b"\xff\xe1\x00\x0cExif\0\0\xff\xd9"
    for content in (JPEG[:cut], JPEG[:2] + thumbnail + JPEG[2:cut]):
        with pytest.raises(BadPicture):
            read_picture(content, 32, "center")


def test_bytes_after_the_end_are_no_damage():
    assert read_header(JPEG + bytes(100)) == ("jpeg", 218, 178)
    np.testing.assert_array_equal(
        read_picture(JPEG + bytes(100), 32, "none"), read_picture(JPEG, 32, "none")
    )


def test_files_are_read_with_a_reason_for_each(tmp_path):
    (tmp_path / "good.jpg").write_bytes(JPEG)
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    names = ["good.jpg", "text.jpg", "gone.jpg", "folder.jpg"]
    found = read_files(tmp_path, names, 32, "center")
    assert found.reasons[0] == "" and "not a JPEG" in found.reasons[1]
    assert found.reasons[2:] == ["no such file", "cannot be read: Is a directory"]
    assert found.images[0].any() and not found.images[1:].any()


def test_folders_are_listed_with_subfolders(tmp_path):
    for name in ("b/x.PGM", "a.jpg", ".hidden.jpg", "notes.txt", ".git/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    assert list_images(tmp_path) == {"a.jpg": 2, "b/x.PGM": 2}


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"--data_dir=x: no folder .*gone"):
        require_images(tmp_path / "gone", "--data_dir=x")
    with pytest.raises(UsageError, match=r"--data_dir=x: no picture \(.jpg"):
        require_images(tmp_path, "--data_dir=x")
