"""Soft shapes from additions, products and square roots only.

IEEE arithmetic fixes the result of those to the last bit, while `np.sin`, `np.exp` and `**` differ
between processors. The pinned checksum of the pictures relies on it.
"""

import numpy as np


def coverage(distance: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Returns how much of a pixel a shape covers, in [0, 1].

    Args:
      distance: [n, h, w] float32 signed distance to the edge, negative inside.
      pixel: [n, 1, 1] float32 width of a pixel in the same unit; larger makes a softer edge.
    """
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def bump(squared: np.ndarray) -> np.ndarray:
    """Returns (1 - squared)^2 inside squared < 1 and 0 outside: a bell with an end."""
    inside = np.maximum(1.0 - squared, 0.0)
    return inside * inside


def step(value: np.ndarray) -> np.ndarray:
    """Returns the smooth step 3t^2 - 2t^3 from 0 at value <= 0 to 1 at value >= 1."""
    t = np.clip(value, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def sine(turns: np.ndarray) -> np.ndarray:
    """Returns sin(2 pi turns) to 0.0011, by two parabolas."""
    t = turns - np.floor(turns + 0.5)
    y = t * (8.0 - 16.0 * np.abs(t))
    return y + 0.225 * (y * np.abs(y) - y)


def cosine(turns: np.ndarray) -> np.ndarray:
    """Returns cos(2 pi turns) to 0.0011."""
    return sine(turns + 0.25)


def stroke(
    along: np.ndarray, across: np.ndarray, length: float, width: np.ndarray | float
) -> np.ndarray:
    """Returns a soft line, 1 on its axis and 0 beyond `length` along and `width` across it."""
    return bump((along / length) ** 2) * bump((across / width) ** 2)
