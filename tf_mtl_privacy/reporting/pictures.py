"""Sheets of small pictures.

Draws maps over faces: grey face, heat on top, the true region outlined.
"""

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


# Dark blue over grey to yellow, lightness rising evenly: the colours of "cividis" (Nunez et al.
# 2018), which look the same to those who cannot tell red from green.
_HEAT = np.array(
    [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]],
    np.float64,
)
# What marks nothing shows the face; what marks most hides this share of it.
_MOST_OPAQUE = 0.85
_GREY = np.array([0.299, 0.587, 0.114])


def heat_over(images: Array, maps: Array) -> Array:
    """Faces in grey under a map: yellow where it is highest in its picture, blue where low.

    Args:
        images: `[N, H, W, 3]` uint8.
        maps: `[N, H, W]` float, at least 0; each is scaled to its own maximum.

    Returns:
        `[N, H, W, 3]` uint8.
    """
    most = maps.max(axis=(1, 2), keepdims=True)
    share = np.where(most > 0, maps / np.where(most > 0, most, 1.0), 0.0)
    place = share * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., np.newaxis]
    colour = (1.0 - part) * _HEAT[low] + part * _HEAT[low + 1]
    grey = np.repeat((images @ _GREY)[..., np.newaxis], 3, axis=-1)
    opaque = _MOST_OPAQUE * np.sqrt(share)[..., np.newaxis]
    return np.rint((1.0 - opaque) * grey + opaque * colour).astype(np.uint8)


def outlined(images: Array, regions: Array) -> Array:
    """Pictures with a line around regions, just outside of them: black, and white around that.

    Args:
        images: `[N, H, W, 3]` uint8.
        regions: `[N, H, W]` bool.
    """
    drawn, inner = images.copy(), _grown(regions)
    drawn[_grown(inner)] = 255
    drawn[inner] = 0
    drawn[regions] = images[regions]
    return drawn


def _grown(regions: Array) -> Array:
    """Regions and the pixels that touch them, also by a corner."""
    padded = np.pad(regions, ((0, 0), (1, 1), (1, 1)))
    height, width = regions.shape[1:]
    near = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.any(near, axis=0)
