"""Sheets of small pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
_BACKGROUND = 255


def contact_sheet(images: Array, columns: int = 8, gap: int = 2) -> Array:
    """Pictures in rows of `columns`, read like text, on white.

    Args:
        images: `[N, H, W, 3]` uint8, N > 0.
        columns: pictures per row.
        gap: white pixels around each picture.

    Returns:
        `[rows * (H + gap) + gap, columns * (W + gap) + gap, 3]` uint8.

    Raises:
        ValueError: not such an array, or nothing to show.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"expected [N, H, W, 3] uint8, got {images.shape} {images.dtype}")
    number, height, width, _ = images.shape
    columns = min(columns, number)
    lines = -(-number // columns)
    shape = (lines * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, _BACKGROUND, np.uint8)
    for position, image in enumerate(images):
        line, column = divmod(position, columns)
        top, left = gap + line * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def comparison_sheet(rows: Sequence[Array], columns: int = 8, gap: int = 2) -> Array:
    """Several versions of the same pictures, one above the other: original over restored.

    Args:
        rows: versions, each `[N, H, W, 3]` uint8, N > 0.
        columns: pictures per row; further pictures follow below.
        gap: white pixels around each picture.

    Raises:
        ValueError: versions of different shapes.
    """
    if len({version.shape for version in rows}) != 1:
        raise ValueError(f"expected equal shapes, got {[version.shape for version in rows]}")
    number = len(rows[0])
    columns = min(columns, number)
    blank = np.full_like(rows[0][:1], _BACKGROUND)
    lines = []
    for start in range(0, number, columns):
        for version in rows:
            part = version[start : start + columns]
            lines += [part, *[blank] * (columns - len(part))]
    return contact_sheet(np.concatenate(lines), columns, gap)


def png_bytes(image: Array) -> bytes:
    """`[H, W, 3]` uint8 as a PNG file's content."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def enlarged(images: Array, pixels: int) -> Array:
    """Pictures `[N, H, W, 3]` whose pixels are repeated until they are about `pixels` wide."""
    factor = max(1, pixels // images.shape[2])
    return images.repeat(factor, axis=1).repeat(factor, axis=2)
