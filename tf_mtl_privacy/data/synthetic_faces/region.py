"""Where a layer paints: the whole picture, or a small window that follows the face."""

import math

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.pose import LARGEST_SCALE, Pose

Point = tuple[np.ndarray, np.ndarray]


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
