import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.data.preprocess import (
    decode_content,
    exif_orientation,
    map_points,
    prepare_content,
    prepare_pixels,
    read_picture,
    to_float,
)

SIZE = 32
FACE = picture(1)


def far(a, b):
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def pillow(pixels, size, crop):
    """The same crop and the same filter (a triangle widened by the scale), by Pillow."""
    image = Image.fromarray(pixels)
    if crop == "center":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("shape", [(218, 178), (41, 64), (8, 9)])
def test_crop_and_resize_are_those_of_pillow(crop, shape):
    sharp = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    # Pillow rounds between its two passes.
    assert far(prepare_pixels(tf.constant(sharp), SIZE, crop), pillow(sharp, SIZE, crop)) <= 1


def test_auto_is_center():
    auto, center, none = (
        read_picture(encoded(FACE, "PNG"), SIZE, c) for c in ("auto", "center", "none")
    )
    assert far(auto, center) == 0 and far(auto, none) > 0


def test_a_picture_of_the_right_size_is_not_changed():
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert far(read_picture(encoded(pixels, "PNG"), SIZE, "center"), pixels) == 0


def test_jpeg_is_decoded_with_the_accurate_dct():
    content = encoded(FACE, "JPEG", quality=90)
    # Pillow uses libjpeg's accurate DCT too; the fast one differs by several levels.
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert far(read_picture(content, SIZE, "none"), pillow(expected, SIZE, "none")) <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM"])
def test_lossless_formats_agree(kind):
    expected = read_picture(encoded(FACE, "PNG"), SIZE, "center")
    assert far(read_picture(encoded(FACE, kind), SIZE, "center"), expected) == 0


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("PPM", {})])
def test_greyscale_becomes_three_equal_channels(kind, options):
    prepared = read_picture(encoded(FACE, kind, "L", **options), SIZE, "center")
    assert far(prepared[..., 0], prepared[..., 1]) == far(prepared[..., 0], prepared[..., 2]) == 0
    grey = np.asarray(Image.fromarray(FACE).convert("L").convert("RGB"))
    assert far(prepared, pillow(grey, SIZE, "center")) <= 2


def test_cmyk_is_turned_into_rgb():
    content = encoded(FACE, "JPEG", "CMYK", quality=95)
    rgb = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert far(read_picture(content, SIZE, "center"), pillow(rgb, SIZE, "center")) <= 2
    assert far(read_picture(content, SIZE, "center"), pillow(FACE, SIZE, "center")) <= 12


def test_transparent_pixels_lie_on_white():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 0] = 200
    for alpha, expected in [(255, (200, 0, 0)), (0, (255, 255, 255)), (51, (244, 204, 204))]:
        pixels[..., 3] = alpha
        prepared = read_picture(encoded(Image.fromarray(pixels, "RGBA"), "PNG"), 16, "center")
        assert prepared[3, 3].tolist() == list(expected)


def test_every_shade_at_every_opacity_is_rounded_to_the_nearest_level():
    shade, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([shade, shade, shade, alpha], axis=-1).astype(np.uint8)
    found = decode_content(tf.constant(encoded(Image.fromarray(pixels, "RGBA"), "PNG"))).numpy()
    exact = shade * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(found - exact[..., np.newaxis]).max() < 0.5


def test_sixteen_bit_pgm_is_scaled_by_its_highest_value():
    samples = np.array([[0, 500], [1000, 250]]).repeat(8, 0).repeat(8, 1)
    content = b"P5\n# made by 3 hands\n16 16\n1000\n" + samples.astype(">u2").tobytes()
    prepared = read_picture(content, 16, "center")
    assert prepared[[0, 0, 15, 15], [0, 15, 0, 15], 0].tolist() == [0, 128, 255, 64]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation):
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


def test_both_byte_orders_and_segments_before_it_are_read():
    little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0"
    comment = b"\xff\xfe\x00\x06Exif"
    assert int(exif_orientation(tf.constant(with_exif(little)))) == 6
    assert int(exif_orientation(tf.constant(with_exif(big, comment)))) == 8


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_a_broken_exif_segment_never_fails(tail):
    for content in (with_exif(b"II*\0" + tail), b"\xff\xd8\xff\xe1" + tail, tail):
        assert 1 <= int(exif_orientation(tf.constant(content))) <= 8


def test_points_move_with_the_picture():
    pixels = np.zeros((218, 178, 3), np.uint8)
    y, x = 100, 60
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    for crop in ("center", "none"):
        prepared = prepare_pixels(tf.constant(pixels), 64, crop).numpy()[..., 0].astype(float)
        weights = prepared / prepared.sum()
        found = [(weights.sum(0) * np.arange(64)).sum(), (weights.sum(1) * np.arange(64)).sum()]
        moved = map_points(np.array([[x, y]]), 218, 178, 64, crop)
        np.testing.assert_allclose(moved[0], found, atol=0.05)


def test_to_float_is_a_fraction():
    scaled = to_float(tf.constant([0, 51, 255], tf.uint8))
    assert scaled.dtype == tf.float32
    np.testing.assert_allclose(scaled, [0, 0.2, 1], atol=1e-7)


def test_an_exported_signature_agrees_exactly(tmp_path):
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
