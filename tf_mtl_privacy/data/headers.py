"""Reads a picture's header: format and size, before anything large is decoded."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import numpy as np

# Of `preprocess`; bumped when it makes other pixels of the same file.
PREPROCESS_VERSION = 1
SMALLEST_SIDE = 8
LARGEST_PIXELS = 50_000_000
# Each scan of a JPEG passes over the whole picture: some hundred kilobytes of them take minutes.
# Progressive files of the usual programs have about ten.
MOST_SCANS = 100
_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

JPEG_MAGIC, PNG_MAGIC, BMP_MAGIC = b"\xff\xd8", b"\x89PNG", b"BM"
_PNM = re.compile(rb"P([56])((?:\s|#[^\n]*\n)+\d+)((?:\s|#[^\n]*\n)+\d+)((?:\s|#[^\n]*\n)+\d+)\s")


class BadPicture(ValueError):  # noqa: N818 (a finding about a file, not a failure)
    """A picture that cannot be used; the text is the reason, in a few words."""


class Header(NamedTuple):
    """What a picture's header says: `format` is 'jpeg', 'png', 'bmp' or 'pnm'; sizes in pixels."""

    format: str
    height: int
    width: int


def read_header(content: bytes, *, with_pnm: bool = True) -> Header:
    """Reads and checks the header of a whole picture file.

    Args:
        content: the file.
        with_pnm: whether binary PGM and PPM are taken; exported models decode none.

    Raises:
        BadPicture: not a picture, cut short, or of a size that is refused (a side below 8 pixels,
            more than 50 megapixels), or a JPEG of more than `MOST_SCANS` scans.
    """
    try:
        header = _parse(content, with_pnm)
    except (struct.error, IndexError) as error:
        raise BadPicture("truncated header") from error
    if min(header.height, header.width) < SMALLEST_SIDE:
        raise BadPicture(f"{header.width}x{header.height} pixels, smaller than 8x8")
    if header.height * header.width > LARGEST_PIXELS:
        raise BadPicture(f"{header.width}x{header.height} pixels, more than 50 megapixels")
    return header


def decode_pnm(content: bytes) -> tuple[bytes, int, int, int, int]:
    """The parts of a binary PGM or PPM: (samples, height, width, channels, highest value).

    Raises:
        BadPicture: not of that form, or cut short.
    """
    height, width, channels, highest, start = _parse_pnm(content)
    needed = height * width * channels * (1 if highest < 256 else 2)
    samples = content[start : start + needed]
    if len(samples) < needed:
        raise BadPicture("truncated PGM or PPM")
    return samples, height, width, channels, highest


def pnm_pixels(content: bytes) -> np.ndarray:
    """A binary PGM or PPM file as `[H, W, 3]` uint8; its highest value becomes 255.

    Raises:
        BadPicture: not of that form, or cut short.
    """
    samples, height, width, channels, highest = decode_pnm(content)
    values = np.frombuffer(samples, np.uint8 if highest < 256 else ">u2")
    if highest != 255:
        values = np.round(np.minimum(values, highest) * (255.0 / highest))
    pixels = values.astype(np.uint8).reshape(height, width, channels)
    return np.broadcast_to(pixels, (height, width, 3)) if channels == 1 else pixels


def _parse(content: bytes, with_pnm: bool) -> Header:
    if content.startswith(JPEG_MAGIC):
        return _parse_jpeg(content)
    if content.startswith(PNG_MAGIC):
        width, height = struct.unpack(">II", content[16:24])
        if b"IEND" not in content[-64:]:
            raise BadPicture("truncated PNG (no end mark)")
        return Header("png", height, width)
    if content.startswith(BMP_MAGIC):
        width, height = struct.unpack("<ii", content[18:26])
        (bits,) = struct.unpack("<H", content[28:30])
        if bits not in (24, 32):
            raise BadPicture(f"BMP with {bits} bits per pixel, expected 24 or 32")
        return Header("bmp", abs(height), width)
    if with_pnm and _PNM.match(content):
        height, width, _, _, _ = _parse_pnm(content)
        return Header("pnm", height, width)
    if not content:
        raise BadPicture("empty file")
    raise BadPicture(f"not a JPEG, PNG{', BMP, PGM or PPM' if with_pnm else ' or BMP'} picture")


def _parse_pnm(content: bytes) -> tuple[int, int, int, int, int]:
    """(height, width, channels, highest value, where the samples start)."""
    match = _PNM.match(content)
    if not match:
        raise BadPicture("not a binary PGM or PPM")
    # A comment may hold digits: the number is what stands last.
    width, height, highest = (int(re.findall(rb"\d+$", part)[0]) for part in match.groups()[1:])
    if not 0 < highest < 65536:
        raise BadPicture(f"highest value {highest} in its header")
    return height, width, 1 if match.group(1) == b"5" else 3, highest, match.end()


def _parse_jpeg(content: bytes) -> Header:
    position = 2
    while True:
        mark, code = content[position], content[position + 1]
        if mark != 0xFF:
            raise BadPicture("damaged JPEG header")
        if code == 0xFF:  # fill byte
            position += 1
            continue
        # Start of frame, in any of its forms; C4, C8 and CC are something else.
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            break
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        position += 2 + length
    # Found here first because TensorFlow writes lines to standard error for each of these.
    if content.rfind(b"\xff\xd9") < position:
        raise BadPicture("truncated JPEG (no end mark)")
    if _scans(content, position) > MOST_SCANS:
        raise BadPicture(f"JPEG with more than {MOST_SCANS} scans")
    return Header("jpeg", height, width)


def _scans(content: bytes, position: int) -> int:
    """How many scans a JPEG has from `position` to its end mark, counted to `MOST_SCANS` + 1.

    By the marks that a decoder follows: thumbnails, and what stands behind the end (a film, in
    some phones' pictures), may hold the same bytes.
    """
    count = 0
    while count <= MOST_SCANS:
        mark = _MARK.search(content, position)
        if mark is None or content[mark.start() + 1] == 0xD9 or mark.end() + 2 > len(content):
            break
        count += content[mark.start() + 1] == 0xDA
        position = mark.end() + struct.unpack_from(">H", content, mark.end())[0]
    return count
