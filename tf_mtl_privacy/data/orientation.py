"""EXIF orientation of a JPEG in TensorFlow ops, so that an exported signature applies it too.

Source: Exif 2.3 (JEITA CP-3451C), sections 4.5.4 and 4.6.4, tag 0x0112. Orientation marks inside
PNG files are not read.
"""

from __future__ import annotations

import tensorflow as tf

_EXIF = b"Exif\x00\x00"
# Markers follow each other and each is at most 64 KiB; Exif stands first or after JFIF.
_SEARCHED_BYTES = 1 << 17
_ORIENTATION_TAG, _SHORT = 0x0112, 3


def exif_orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation (int64 scalar in 1..8) that a JPEG file asks for; 1 where it says nothing.

    Args:
        content: string scalar, the whole file. Anything but a JPEG gives 1.
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
    """Where the TIFF part of the Exif segment starts in `data`, or 0."""
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
    # Positions come from the file: outside of it reads as 0. One padding byte covers empty data.
    padded = tf.concat([data, tf.constant([0], tf.int64)], 0)
    inside = (position >= 0) & (position < tf.size(data, tf.int64))
    return tf.gather(padded, tf.where(inside, position, tf.size(data, tf.int64)))


def _number(data: tf.Tensor, position: tf.Tensor, count: int, little: tf.Tensor) -> tf.Tensor:
    parts = [_at(data, position + k) for k in range(count)]
    big_endian = sum(part * 256 ** (count - 1 - k) for k, part in enumerate(parts))
    little_endian = sum(part * 256**k for k, part in enumerate(parts))
    return tf.where(little, little_endian, big_endian)
