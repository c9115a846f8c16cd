"""Pixel positions that move with a picture through `preprocess`."""

from __future__ import annotations

import numpy as np


def map_points(points: np.ndarray, height: int, width: int, size: int, crop: str) -> np.ndarray:
    """Moves pixel positions with the picture through `preprocess.prepare_pixels`.

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
