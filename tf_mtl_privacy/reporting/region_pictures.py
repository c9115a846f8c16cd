"""Draws maps over faces: grey face, heat on top, the true region outlined."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
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
