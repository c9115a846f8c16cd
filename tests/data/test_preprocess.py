"""From picture files to prepared pixels, and pictures that are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.data.headers import BadPicture, read_header
from tf_mtl_privacy.data.preprocess import (
    decode_content,
    exif_orientation,
    map_points,
    prepare_content,
    prepare_pixels,
    read_picture,
    to_float,
)
from tf_mtl_privacy.data.sources.base import list_images, read_files, require_images
from tf_mtl_privacy.errors import UsageError

SIZE = 32
FACE = picture(1)


def far(a, b):
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def pillow(pixels, size, crop):
    """Crops and resizes with Pillow's triangle filter, widened by the scale."""
    image = Image.fromarray(pixels)
    if crop == "center":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("shape", [(218, 178), (41, 64), (8, 9)])
def test_read_picture_crop_and_resize_match_pillow(crop, shape):
    sharp = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    # Pillow rounds between its two passes.
    assert far(prepare_pixels(tf.constant(sharp), SIZE, crop), pillow(sharp, SIZE, crop)) <= 1


def test_read_picture_auto_crop_is_center():
    auto, center, none = (
        read_picture(encoded(FACE, "PNG"), SIZE, c) for c in ("auto", "center", "none")
    )
    assert far(auto, center) == 0 and far(auto, none) > 0


def test_read_picture_right_size_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert far(read_picture(encoded(pixels, "PNG"), SIZE, "center"), pixels) == 0


def test_read_picture_jpeg_uses_the_accurate_dct():
    content = encoded(FACE, "JPEG", quality=90)
    # Pillow uses libjpeg's accurate DCT too; the fast one differs by several levels.
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert far(read_picture(content, SIZE, "none"), pillow(expected, SIZE, "none")) <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
def test_read_picture_lossless_formats_agree(kind):
    expected = read_picture(encoded(FACE, "PNG"), SIZE, "center")
    assert far(read_picture(encoded(FACE, kind), SIZE, "center"), expected) == 0


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("PPM", {})])
def test_read_picture_grey_becomes_three_channels(kind, options):
    prepared = read_picture(encoded(FACE, kind, "L", **options), SIZE, "center")
    assert far(prepared[..., 0], prepared[..., 1]) == far(prepared[..., 0], prepared[..., 2]) == 0
    grey = np.asarray(Image.fromarray(FACE).convert("L").convert("RGB"))
    assert far(prepared, pillow(grey, SIZE, "center")) <= 2


def test_read_picture_cmyk_becomes_rgb():
    content = encoded(FACE, "JPEG", "CMYK", quality=95)
    rgb = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert far(read_picture(content, SIZE, "center"), pillow(rgb, SIZE, "center")) <= 2
    assert far(read_picture(content, SIZE, "center"), pillow(FACE, SIZE, "center")) <= 12


def test_read_picture_transparent_pixels_become_white():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 0] = 200
    for alpha, expected in [(255, (200, 0, 0)), (0, (255, 255, 255)), (51, (244, 204, 204))]:
        pixels[..., 3] = alpha
        prepared = read_picture(encoded(Image.fromarray(pixels, "RGBA"), "PNG"), 16, "center")
        assert prepared[3, 3].tolist() == list(expected)


def test_read_picture_blending_rounds_to_the_nearest_level():
    shade, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([shade, shade, shade, alpha], axis=-1).astype(np.uint8)
    found = decode_content(tf.constant(encoded(Image.fromarray(pixels, "RGBA"), "PNG"))).numpy()
    exact = shade * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(found - exact[..., np.newaxis]).max() < 0.5


def test_read_picture_16_bit_pgm_is_scaled_by_its_maximum():
    samples = np.array([[0, 500], [1000, 250]]).repeat(8, 0).repeat(8, 1)
    content = b"P5\n# made by 3 hands\n16 16\n1000\n" + samples.astype(">u2").tobytes()
    prepared = read_picture(content, 16, "center")
    assert prepared[[0, 0, 15, 15], [0, 15, 0, 15], 0].tolist() == [0, 128, 255, 64]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_matches_pillow(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(FACE, "JPEG", quality=95, exif=exif)
    assert int(exif_orientation(tf.constant(content))) == orientation
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    expected = read_picture(encoded(upright, "PNG"), SIZE, "center")
    assert far(read_picture(content, SIZE, "center"), expected) == 0


def with_exif(tiff, before=b""):
    body = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    return b"\xff\xd8" + before + segment + encoded(FACE, "JPEG")[2:]


def test_exif_orientation_byte_orders_and_earlier_segments_are_read():
    little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0"
    comment = b"\xff\xfe\x00\x06Exif"
    assert int(exif_orientation(tf.constant(with_exif(little)))) == 6
    assert int(exif_orientation(tf.constant(with_exif(big, comment)))) == 8


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_exif_orientation_broken_segment_does_not_fail(tail):
    for content in (with_exif(b"II*\0" + tail), b"\xff\xd8\xff\xe1" + tail, tail):
        assert 1 <= int(exif_orientation(tf.constant(content))) <= 8


def test_map_points_follows_the_picture():
    pixels = np.zeros((218, 178, 3), np.uint8)
    y, x = 100, 60
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    for crop in ("center", "none"):
        prepared = prepare_pixels(tf.constant(pixels), 64, crop).numpy()[..., 0].astype(float)
        weights = prepared / prepared.sum()
        found = [(weights.sum(0) * np.arange(64)).sum(), (weights.sum(1) * np.arange(64)).sum()]
        moved = map_points(np.array([[x, y]]), 218, 178, 64, crop)
        np.testing.assert_allclose(moved[0], found, atol=0.05)


def test_to_float_scales_to_one():
    scaled = to_float(tf.constant([0, 51, 255], tf.uint8))
    assert scaled.dtype == tf.float32
    np.testing.assert_allclose(scaled, [0, 0.2, 1], atol=1e-7)


def test_exported_signature_gives_the_same_pixels(tmp_path):
    module = tf.Module()
    module.prepare = tf.function(
        lambda content: prepare_content(content, SIZE, "center"),
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (
        encoded(FACE, "JPEG", exif=exif),
        encoded(FACE, "PNG", "RGBA"),
        encoded(FACE, "BMP"),
    ):
        expected = read_picture(content, SIZE, "center")
        assert far(loaded.prepare(tf.constant(content)), expected) == 0
    for bad in (b"", b"text", encoded(FACE[:1, :1], "PNG")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected a"):
            loaded.prepare(tf.constant(bad))


JPEG, PNG = encoded(FACE, "JPEG"), encoded(FACE, "PNG")
PALETTE_BMP = encoded(FACE, "BMP", "P")


def empty_png(width, height):
    """Returns a PNG with the header of a huge picture."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [(head[:4], head[4:]), *parts]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def many_scans(count):
    """Returns a progressive JPEG that repeats its last scan."""
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
def test_read_picture_bad_picture_has_a_reason(reason):
    with pytest.raises(BadPicture, match=reason):
        read_picture(BAD[reason], 32, "center")


@pytest.mark.parametrize("reason", [r for r in BAD if "PGM" not in r])
def test_exported_ops_refuse_bad_pictures(reason):
    with pytest.raises(tf.errors.InvalidArgumentError):
        prepare_content(tf.constant(BAD[reason]), 32, "center")


def test_read_picture_large_jpeg_is_refused_before_decoding():
    content = encoded(np.zeros((8000, 8000), np.uint8), "JPEG", quality=5)
    with pytest.raises(BadPicture, match="8000x8000"):
        read_picture(content, 32, "center")
    with pytest.raises(tf.errors.InvalidArgumentError, match="50 megapixels"):
        prepare_content(tf.constant(content), 32, "center")


def test_read_header_counts_scans_as_a_decoder_does():
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
def test_read_picture_jpeg_cut_anywhere_is_damaged(share):
    cut = int(len(JPEG) * share) - 1
    # The end mark of a thumbnail inside the Exif segment must not pass for that of the picture.
    thumbnail = b"\xff\xe1\x00\x0cExif\0\0\xff\xd9"
    for content in (JPEG[:cut], JPEG[:2] + thumbnail + JPEG[2:cut]):
        with pytest.raises(BadPicture):
            read_picture(content, 32, "center")


def test_read_picture_ignores_bytes_after_the_end():
    assert read_header(JPEG + bytes(100)) == ("jpeg", 218, 178)
    np.testing.assert_array_equal(
        read_picture(JPEG + bytes(100), 32, "none"), read_picture(JPEG, 32, "none")
    )


def test_read_files_gives_a_reason_for_each(tmp_path):
    (tmp_path / "good.jpg").write_bytes(JPEG)
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    names = ["good.jpg", "text.jpg", "gone.jpg", "folder.jpg"]
    found = read_files(tmp_path, names, 32, "center")
    assert found.reasons[0] == "" and "not a JPEG" in found.reasons[1]
    assert found.reasons[2:] == ["no such file", "cannot be read: Is a directory"]
    assert found.images[0].any() and not found.images[1:].any()


def test_list_images_includes_subfolders(tmp_path):
    for name in ("b/x.PGM", "a.jpg", ".hidden.jpg", "notes.txt", ".git/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    assert list_images(tmp_path) == {"a.jpg": 2, "b/x.PGM": 2}


def test_require_images_names_missing_and_empty_folders(tmp_path):
    with pytest.raises(UsageError, match=r"--data_dir=x: no folder .*gone"):
        require_images(tmp_path / "gone", "--data_dir=x")
    with pytest.raises(UsageError, match=r"--data_dir=x: no picture \(.jpg"):
        require_images(tmp_path, "--data_dir=x")
