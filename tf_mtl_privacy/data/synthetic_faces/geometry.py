"""Geometry of a face in its picture: soft shapes, the head's pose, and regions to paint.

Soft shapes use additions, products and square roots only. IEEE arithmetic fixes the result of those
to the last bit, while `np.sin`, `np.exp` and `**` differ between processors. The pinned checksum of
the pictures relies on it.
"""

import math
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.draws import Draws

# Windows are cut for the largest head that any pose or shift can give.
LARGEST_SCALE = 1.15
Point = tuple[np.ndarray, np.ndarray]


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


class Pose(NamedTuple):
    """The map between the picture, [-1, 1]^2, and the face, whose half-width is about 0.6.

    All fields are [n, 1, 1] float32.

    Attributes:
      cos, sin: of the roll.
      u, v: position of the face's origin in the picture.
      scale: picture units in a face unit.
      yaw, pitch: how far the middle of the face has turned right and down, in face units.
      pixel: face units in a pixel.
    """

    cos: np.ndarray
    sin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    scale: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    pixel: np.ndarray

    def to_face(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps picture coordinates to face coordinates; arguments broadcast to [n, h, w]."""
        cos, sin = self.cos / self.scale, self.sin / self.scale
        du, dv = u - self.u, v - self.v
        return cos * du + sin * dv, cos * dv - sin * du

    def to_picture(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps face coordinates to picture coordinates."""
        across = (self.cos * x - self.sin * y) * self.scale
        down = (self.sin * x + self.cos * y) * self.scale
        return self.u + across, self.v + down


def draw_pose(draws: Draws, size: int, small: np.ndarray, shifted: bool) -> Pose:
    """Draws a pose for each face.

    Args:
      draws: the random numbers.
      size: pixels of the picture's side.
      small: [n, 1, 1] float32 in [0, 1], how much smaller than an adult's the head is.
      shifted: whether heads are tilted, off centre and turned more than usual.
    """
    roll = draws.image("roll", -1.0, 1.0) * np.float32(0.055 if shifted else 0.024)
    reach = np.float32(1.8 if shifted else 1.0)
    turn = np.float32(1.7 if shifted else 1.0)
    scale = draws.image("scale", 0.82 if shifted else 0.92, 1.06) * (1.0 - 0.08 * small)
    return Pose(
        cos=cosine(roll),
        sin=sine(roll),
        u=draws.image("place_u", -0.10, 0.10) * reach,
        v=draws.image("place_v", -0.085, 0.085) * reach + np.float32(0.04),
        scale=scale,
        yaw=draws.image("yaw", -0.048, 0.048) * turn,
        pitch=draws.image("pitch", -0.038, 0.038) * turn,
        pixel=np.float32(2.0 / size) / scale,
    )


class Region:
    """Pixels of n faces in a rectangle, with each pixel's place in the frame of its face.

    Attributes:
      x, y: [n, h, w] float32 place in face units, right and down from the region's centre.
      pixel: [n, 1, 1] float32 width of a pixel in face units.
      pixels: [3, n, h, w] float32 colours, [0, 1] but for rounding.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, pixel: np.ndarray, pixels: np.ndarray):
        self.x, self.y, self.pixel, self.pixels = x, y, pixel, pixels

    def paint(self, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Lays `colour` ([3, n, 1, 1] or [3, n, h, w]) over the pixels by `alpha` ([n, h, w])."""
        difference = np.empty_like(self.pixels[0])
        for channel in range(3):
            old = self.pixels[channel]
            np.subtract(colour[channel], old, out=difference)
            difference *= alpha
            old += difference

    def shade(self, factor: np.ndarray) -> None:
        """Multiplies the pixels by `factor`, [n, h, w] or [3, n, h, w]."""
        self.pixels *= factor


def whole(pose: Pose, canvas: np.ndarray) -> Region:
    """Returns the region of all pixels of `canvas` ([3, n, S, S]), centred on the face."""
    grid = pixel_grid(canvas.shape[-1])
    x, y = pose.to_face(grid[None, None, :], grid[None, :, None])
    return Region(x, y, pose.pixel, canvas)


def pixel_grid(size: int) -> np.ndarray:
    """Returns [S] float32 centres of the pixels, from -1 to 1 across the picture."""
    return (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(
        2.0 / size
    ) - np.float32(1.0)


class Window:
    """A `Region` copied out of the canvas; leaving the `with` block writes it back.

    All pixels within `half` of the centre are inside it, for any roll and scale of the head.
    """

    def __init__(self, pose: Pose, canvas: np.ndarray, centre: Point, half: tuple[float, float]):
        """`centre` is a pair of [n, 1, 1] face coordinates; `half` a pair of face units."""
        self._canvas = canvas
        count, size = canvas.shape[1], canvas.shape[-1]
        centre_u, centre_v = pose.to_picture(*centre)
        across, down = half
        # A rolled rectangle needs a larger upright one.
        sine = 0.35
        columns = self._span(centre_u, across + sine * down, size)
        rows = self._span(centre_v, down + sine * across, size)
        grid = pixel_grid(size)
        x, y = pose.to_face(grid[columns][:, None, :], grid[rows][:, :, None])
        x -= centre[0]
        y -= centre[1]
        # A loop over slices: one fancy index for all of them takes several times as long.
        self._places = [
            (slice(top, top + rows.shape[1]), slice(left, left + columns.shape[1]))
            for top, left in zip(rows[:, 0].tolist(), columns[:, 0].tolist(), strict=True)
        ]
        pixels = np.empty((3, count, rows.shape[1], columns.shape[1]), np.float32)
        for face, (down_part, across_part) in enumerate(self._places):
            pixels[:, face] = canvas[:, face, down_part, across_part]
        self.region = Region(x, y, pose.pixel, pixels)

    @staticmethod
    def _span(centre: np.ndarray, half: float, size: int) -> np.ndarray:
        reach = math.ceil(half * LARGEST_SCALE * size / 2) + 1
        length = min(2 * reach + 1, size)
        middle = np.floor((centre + 1.0) * np.float32(size / 2)).astype(np.int64).reshape(-1, 1)
        return np.clip(middle - reach, 0, size - length) + np.arange(length)

    def __enter__(self) -> Region:
        return self.region

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            for face, (rows, columns) in enumerate(self._places):
                self._canvas[:, face, rows, columns] = self.region.pixels[:, face]

    def put_mask(self, mask: np.ndarray, inside: np.ndarray) -> None:
        """Adds `inside` ([n, h, w] bool, of this window) to `mask` ([n, S, S] bool) in place."""
        for face, (rows, columns) in enumerate(self._places):
            mask[face, rows, columns] |= inside[face]
