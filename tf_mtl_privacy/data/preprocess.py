"""Turns a picture file into a prepared picture, for prepare, predict and serving alike.

Steps: decode (JPEG with the accurate DCT), turn upright by EXIF, blend transparent pixels with
white, crop, resize with antialiasing (bilinear: a triangle filter widened by the scale), round to
uint8. All steps are TensorFlow ops that work inside a SavedModel signature; only PGM and PPM files
need `read_picture`.

EXIF orientation: Exif 2.3 (JEITA CP-3451C), sections 4.5.4 and 4.6.4, tag 0x0112. Orientation
inside PNG files is not read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.headers import (
    MAX_PIXELS,
    MIN_SIDE,
    BadPicture,
    pnm_pixels,
    read_header,
)

_EXIF = b"Exif\x00\x00"
# Segments follow each other and have at most 64 KiB; Exif comes first or after JFIF.
_SEARCHED_BYTES = 1 << 17
_ORIENTATION_TAG, _SHORT = 0x0112, 3


def exif_orientation(content: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation (int64 scalar in 1..8) of a JPEG file; 1 without one.

    Args:
        content: string scalar, the whole file. Other formats give 1.
    """
    head = tf.strings.substr(content, 0, _SEARCHED_BYTES)
    data = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64)
    base = _find_exif(head, data)
    return tf.cond(base > 0, lambda: _read_tag(data, base), lambda: tf.constant(1, tf.int64))


def orient(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors `image` ([H, W, C]) upright; `orientation` is an int64 scalar in 1..8."""

    def any_of(*codes: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(codes, tf.int64))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(any_of(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
    return tf.cond(any_of(3, 4, 7, 8), lambda: image[::-1], lambda: image)


def _find_exif(head: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Returns the offset of the Exif segment's TIFF part in `data`, or 0."""
    length = tf.size(data, tf.int64)

    def is_segment(position: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        code = _at(data, position + 1)
        # Only application segments (E0 to EF) and comments (FE) may come before the Exif one.
        optional = ((code >= 0xE0) & (code <= 0xEF)) | (code == 0xFE)
        return (found == 0) & (position + 10 < length) & (_at(data, position) == 0xFF) & optional

    def step(position: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_exif = (_at(data, position + 1) == 0xE1) & (
            tf.strings.substr(head, position + 4, 6) == _EXIF
        )
        following = position + 2 + _number(data, position + 2, 2, tf.constant(False))
        return following, tf.where(is_exif, position + 10, found)

    is_jpeg = (_at(data, tf.constant(0, tf.int64)) == 0xFF) & (
        _at(data, tf.constant(1, tf.int64)) == 0xD8
    )
    start = tf.where(is_jpeg, tf.constant(2, tf.int64), length)
    _, found = tf.while_loop(is_segment, step, (start, tf.constant(0, tf.int64)))
    return found


def _read_tag(data: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
    little = _at(data, base) == ord("I")
    directory = base + _number(data, base + 4, 4, little)
    count = tf.minimum(_number(data, directory, 2, little), 1000)
    entries = directory + 2 + 12 * tf.range(count)
    entries = tf.boolean_mask(entries, entries + 12 <= tf.size(data, tf.int64))
    wanted = (_number(data, entries, 2, little) == _ORIENTATION_TAG) & (
        _number(data, entries + 2, 2, little) == _SHORT
    )
    values = tf.boolean_mask(_number(data, entries + 8, 2, little), wanted)
    value = tf.concat([values, tf.constant([1], tf.int64)], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, tf.constant(1, tf.int64))


def _at(data: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    # Offsets come from the file; those outside of it read as 0. One padding byte covers empty data.
    padded = tf.concat([data, tf.constant([0], tf.int64)], 0)
    inside = (position >= 0) & (position < tf.size(data, tf.int64))
    return tf.gather(padded, tf.where(inside, position, tf.size(data, tf.int64)))


def _number(data: tf.Tensor, position: tf.Tensor, count: int, little: tf.Tensor) -> tf.Tensor:
    parts = [_at(data, position + k) for k in range(count)]
    big_endian = sum(part * 256 ** (count - 1 - k) for k, part in enumerate(parts))
    little_endian = sum(part * 256**k for k, part in enumerate(parts))
    return tf.where(little, little_endian, big_endian)


def map_points(points: np.ndarray, height: int, width: int, size: int, crop: str) -> np.ndarray:
    """Maps pixel positions of a picture to its version prepared by `prepare_pixels`.

    Args:
        points: `[N, 2 k]` x, y, x, y, ... in a picture of `height` x `width`; the centre of the
            first pixel is 0, 0.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        size: height and width of the prepared picture.
        crop: as for `preprocess.prepare_content`.

    Returns:
        `[N, 2 k]` float32 positions in the prepared picture.
    """
    xy = np.asarray(points, np.float64).reshape(len(points), -1, 2)
    extent, origin = np.array([width, height]), np.zeros(2)
    if crop != "none":
        side = min(height, width)
        side = side * 3 // 4 if crop == "inner" else side
        origin = np.array([(width - side) // 2, (height - side) // 2])
        extent = np.array([side, side])
    moved = (xy - origin + 0.5) * size / extent - 0.5
    return moved.reshape(len(points), -1).astype(np.float32)


# Byte pairs that begin a scan, anywhere in a JPEG; see `_scan_check`.
_MAX_MARKS = 1000


def to_float(image: tf.Tensor) -> tf.Tensor:
    """Converts uint8 in [0, 255] to float32 in [0, 1], any shape."""
    return tf.cast(image, tf.float32) / 255.0


def prepare_content(content: tf.Tensor, size: int, crop: str) -> tf.Tensor:
    """Decodes and prepares one picture file, in graph ops.

    Args:
        content: string scalar, a whole JPEG, PNG or BMP (24 or 32 bits) file.
        size: height and width of the result, in pixels.
        crop: 'center' or 'auto' (largest centred square), 'inner' (centred square of 3/4 of that
            side) or 'none' (whole picture, squeezed).

    Returns:
        `[size, size, 3]` uint8, RGB.

    Raises:
        tf.errors.InvalidArgumentError: when run: not such a file, damaged, a side below 8 pixels
            or more than 50 megapixels (found before the picture is decoded).
    """
    return prepare_pixels(decode_content(content), size, crop)


def decode_content(content: tf.Tensor) -> tf.Tensor:
    """Decodes one picture file (see `prepare_content`) to `[H, W, 3]` uint8, upright."""
    magic = tf.strings.substr(content, 0, 2)
    image: tf.Tensor = tf.case(
        [
            (magic == b"\xff\xd8", lambda: _decode_jpeg(content)),
            (magic == b"\x89P", lambda: _decode_png(content)),
            (magic == b"BM", lambda: _decode_bmp(content)),
        ],
        default=lambda: _refuse("expected a JPEG, PNG or BMP picture"),
    )
    return tf.ensure_shape(image, (None, None, 3))


def prepare_pixels(image: tf.Tensor, size: int, crop: str) -> tf.Tensor:
    """Crops and resizes `[.., H, W, 3]` uint8 to `[.., size, size, 3]`; see `prepare_content`.

    Args:
        image: one picture, or a batch `[B, H, W, 3]` of pictures of one size.
        size: as for `prepare_content`.
        crop: as for `prepare_content`.
    """
    if crop != "none":
        height, width = tf.unstack(tf.shape(image)[-3:-1])
        side = tf.minimum(height, width)
        side = side * 3 // 4 if crop == "inner" else side
        top, left = (height - side) // 2, (width - side) // 2
        image = image[..., top : top + side, left : left + side, :]
    resized = tf.image.resize(image, (size, size), method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def read_picture(content: bytes, size: int, crop: str) -> np.ndarray:
    """Prepares one picture file: `[size, size, 3]` uint8, RGB. Also reads PGM and PPM files.

    Raises:
        BadPicture: with the reason in a few words.
    """
    header = read_header(content)
    try:
        if header.format == "pnm":
            prepared = _pixels_function(size, crop)(tf.constant(pnm_pixels(content)))
        else:
            prepared = _content_function(size, crop)(tf.constant(content))
    except tf.errors.InvalidArgumentError as error:
        raise BadPicture(f"cannot be decoded as {header.format.upper()}") from error
    return prepared.numpy()


@functools.lru_cache(maxsize=16)
def _content_function(size: int, crop: str) -> Callable[[tf.Tensor], tf.Tensor]:
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(
        lambda content: prepare_content(content, size, crop),
        autograph=False,
        input_signature=signature,
    )


@functools.lru_cache(maxsize=16)
def _pixels_function(size: int, crop: str) -> Callable[[tf.Tensor], tf.Tensor]:
    signature = [tf.TensorSpec((None, None, 3), tf.uint8)]
    return tf.function(
        lambda image: prepare_pixels(image, size, crop),
        autograph=False,
        input_signature=signature,
    )


def _decode_jpeg(content: tf.Tensor) -> tf.Tensor:
    shape = tf.cast(tf.image.extract_jpeg_shape(content), tf.int64)
    with tf.control_dependencies([*size_checks(shape[0], shape[1]), *_scan_check(content)]):
        # The decoder converts CMYK and greyscale to RGB.
        image = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
    return orient(image, exif_orientation(content))


def _scan_check(content: tf.Tensor) -> list:
    """Returns operations that refuse a JPEG with many scans, which would take minutes to decode.

    `read_header` follows the marks; a graph counts their bytes wherever they stand, so it lets more
    pass: 32 MiB of a film behind a picture hold some 500 by chance.
    """
    # Splits only as far as needed: a file may have millions of scans.
    scans = tf.size(tf.strings.split(content, b"\xff\xda", maxsplit=_MAX_MARKS + 1)) - 1
    message = f"expected a JPEG of at most {_MAX_MARKS} scans"
    return requiring(scans <= _MAX_MARKS, [message])


def _decode_png(content: tf.Tensor) -> tf.Tensor:
    head = _bytes(content, 24)
    width, height = (_big_endian(head[k : k + 4]) for k in (16, 20))
    with tf.control_dependencies(size_checks(height, width)):
        image = tf.io.decode_png(content, channels=4)
    opaque = tf.reduce_all(image[..., 3] == 255)
    return tf.cond(opaque, lambda: image[..., :3], lambda: _on_white(image))


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Blends `[H, W, 4]` uint8 with white: 255 - round((255 - colour) * alpha / 255), never a tie.

    In 16 bits, because as floats a picture of 50 megapixels would take a gigabyte: v / 255 rounded
    is (v + 127) // 255 for whole v up to 255^2, and 255^2 + 127 < 2^16.
    """
    short = tf.cast(image, tf.uint16)
    white, half = tf.constant(255, tf.uint16), tf.constant(127, tf.uint16)
    share = (white - short[..., :3]) * short[..., 3:] + half
    return tf.cast(white - share // white, tf.uint8)


def _decode_bmp(content: tf.Tensor) -> tf.Tensor:
    head = _bytes(content, 30)
    width, height = (_big_endian(head[k : k + 4][::-1]) for k in (18, 22))
    # A negative height means that rows go from top to bottom.
    height = tf.where(height >= 2**31, 2**32 - height, height)
    true_colour = tf.reduce_any(head[28] == tf.constant([24, 32], tf.int64))
    deep = tf.debugging.Assert(true_colour, ["expected a BMP picture of 24 or 32 bits per pixel"])
    with tf.control_dependencies([*size_checks(height, width), deep]):
        return tf.io.decode_bmp(content, channels=0)[..., :3]


def size_checks(height: tf.Tensor, width: tf.Tensor) -> list:
    """Returns operations that refuse a picture of a wrong size; see `prepare_content`.

    Args:
        height: int64 scalar.
        width: int64 scalar.
    """
    accepted = (tf.minimum(height, width) >= MIN_SIDE) & (height * width <= MAX_PIXELS)
    message = "expected a picture of at least 8x8 pixels and at most 50 megapixels, not"
    return requiring(accepted, [message, width, height])


def requiring(condition: tf.Tensor, message: list) -> list:
    """Returns operations that fail with `message` unless `condition` holds."""
    check = tf.debugging.Assert(condition, message)
    return [] if check is None else [check]


def _refuse(message: str) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
        return tf.zeros((1, 1, 3), tf.uint8)


def _bytes(content: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the first `count` bytes as int64; missing bytes are zeros."""
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, count), tf.uint8), tf.int64)
    return tf.concat([data, tf.zeros((count,), tf.int64)], 0)[:count]


def _big_endian(four: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(four * tf.constant([2**24, 2**16, 2**8, 1], tf.int64))
