"""Headers of picture files: format and size, checked before anything large is decoded."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import numpy as np

# Version of `preprocess`; bumped when it makes other pixels of the same file.
PREPROCESS_VERSION = 1
MIN_SIDE = 8
MAX_PIXELS = 50_000_000
# Each scan of a JPEG passes over the whole picture: a few hundred kilobytes of them take minutes.
# Progressive files of common programs have about ten scans.
MAX_SCANS = 100
_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

JPEG_MAGIC, PNG_MAGIC, BMP_MAGIC = b"\xff\xd8", b"\x89PNG", b"BM"
_PNM = re.compile(rb"P([56])((?:\s|#[^\n]*\n)+\d+)((?:\s|#[^\n]*\n)+\d+)((?:\s|#[^\n]*\n)+\d+)\s")


class BadPicture(ValueError):  # noqa: N818 (a finding about a file, not a failure)
    """A picture that cannot be used; the text is the reason."""


class Header(NamedTuple):
    """Format ('jpeg', 'png', 'bmp' or 'pnm') and size in pixels of a picture."""

    format: str
    height: int
    width: int


def read_header(content: bytes, *, with_pnm: bool = True) -> Header:
    """Reads and checks the header of a whole picture file.

    Args:
        content: the file.
        with_pnm: whether binary PGM and PPM are accepted; exported models cannot decode them.

    Raises:
        BadPicture: not a picture, truncated, too small (a side below 8 pixels), too large (more
            than 50 megapixels), or a JPEG with more than `MAX_SCANS` scans.
    """
    try:
        header = _parse(content, with_pnm)
    except (struct.error, IndexError) as error:
        raise BadPicture("truncated header") from error
    if min(header.height, header.width) < MIN_SIDE:
        raise BadPicture(f"{header.width}x{header.height} pixels, smaller than 8x8")
    if header.height * header.width > MAX_PIXELS:
        raise BadPicture(f"{header.width}x{header.height} pixels, more than 50 megapixels")
    return header


def decode_pnm(content: bytes) -> tuple[bytes, int, int, int, int]:
    """Parses a binary PGM or PPM: (samples, height, width, channels, maximum value).

    Raises:
        BadPicture: another format, or truncated.
    """
    height, width, channels, highest, start = _parse_pnm(content)
    needed = height * width * channels * (1 if highest < 256 else 2)
    samples = content[start : start + needed]
    if len(samples) < needed:
        raise BadPicture("truncated PGM or PPM")
    return samples, height, width, channels, highest


def pnm_pixels(content: bytes) -> np.ndarray:
    """Decodes a binary PGM or PPM file to `[H, W, 3]` uint8; its maximum value becomes 255.

    Raises:
        BadPicture: another format, or truncated.
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
    """Returns (height, width, channels, maximum value, offset of the samples)."""
    match = _PNM.match(content)
    if not match:
        raise BadPicture("not a binary PGM or PPM")
    # A comment may contain digits: the number comes last.
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
        # Start of frame, in any of its forms; C4, C8 and CC are other segments.
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            break
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        position += 2 + length
    # Checked here because TensorFlow writes lines to standard error for each of these.
    if content.rfind(b"\xff\xd9") < position:
        raise BadPicture("truncated JPEG (no end mark)")
    if _scans(content, position) > MAX_SCANS:
        raise BadPicture(f"JPEG with more than {MAX_SCANS} scans")
    return Header("jpeg", height, width)


def _scans(content: bytes, position: int) -> int:
    """Counts a JPEG's scans from `position` to its end mark, up to `MAX_SCANS` + 1.

    It follows the markers as a decoder does: thumbnails, and data after the end (a video, in some
    phones' pictures), may contain the same bytes.
    """
    count = 0
    while count <= MAX_SCANS:
        mark = _MARK.search(content, position)
        if mark is None or content[mark.start() + 1] == 0xD9 or mark.end() + 2 > len(content):
            break
        count += content[mark.start() + 1] == 0xDA
        position = mark.end() + struct.unpack_from(">H", content, mark.end())[0]
    return count
