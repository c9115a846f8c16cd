"""Lighting, colour cast and blur of a whole picture."""

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.geometry import bump, pixel_grid

BLUR_REACH = 2


def light(canvas: np.ndarray, draws: Draws, hard: bool, tinted: bool) -> None:
    """Applies exposure, a colour cast, light from one side and contrast, in place.

    Args:
      canvas: [3, n, S, S] float32.
      draws: the random numbers.
      hard: a stronger lamp, less exposure and more contrast.
      tinted: a stronger cast, towards green and blue.
    """
    grid = pixel_grid(canvas.shape[-1])
    u, v = grid[None, None, :], grid[None, :, None]
    slope = np.float32(0.38 if hard else 0.17)
    field = (
        1.0 + slope * draws.image("lamp_u", -1, 1) * u + slope * draws.image("lamp_v", -1, 1) * v
    )
    field *= draws.image("exposure", 0.62, 1.0) if hard else draws.image("exposure", 0.80, 1.10)
    curve = draws.image("contrast", -0.05, 0.22) + np.float32(0.15 if hard else 0.0)
    for channel, bias in enumerate((-0.10, 0.04, 0.10)):
        cast = draws.image(f"cast_{channel}", 0.93, 1.07) + np.float32(bias if tinted else 0.0)
        pixels = canvas[channel]
        pixels *= field * cast
        np.clip(pixels, 0.0, 1.0, out=pixels)
        # Raises or lowers the middle tones; black and white do not change.
        pixels += curve * pixels * (1.0 - pixels) * (2.0 * pixels - 0.6)


def blur(canvas: np.ndarray, draws: Draws) -> None:
    """Puts the picture out of focus, in place, by at most `BLUR_REACH` pixels each way."""
    width = draws.image("defocus", 1.2, 2.6)
    weights = [bump((offset / width) ** 2) for offset in range(BLUR_REACH + 1)]
    total = weights[0] + 2.0 * weights[1] + 2.0 * weights[2]
    for axis in (-1, -2):
        pads = [(0, 0)] * 4
        pads[axis] = (BLUR_REACH, BLUR_REACH)
        padded = np.pad(canvas, pads, mode="edge")
        size = canvas.shape[axis]
        canvas[...] = 0.0
        for offset in range(-BLUR_REACH, BLUR_REACH + 1):
            start = offset + BLUR_REACH
            part = (
                padded[..., start : start + size]
                if axis == -1
                else padded[..., start : start + size, :]
            )
            canvas += part * (weights[abs(offset)] / total)


def dilate(mask: np.ndarray, reach: int) -> np.ndarray:
    """Returns the [N, S, S] bool mask grown by a square of `reach` pixels each way."""
    size = mask.shape[-1]
    padded = np.pad(mask, ((0, 0), (reach, reach), (reach, reach)))
    rows = np.zeros_like(padded[:, :, :size])
    for start in range(2 * reach + 1):
        rows |= padded[:, :, start : start + size]
    grown = np.zeros_like(mask)
    for start in range(2 * reach + 1):
        grown |= rows[:, start : start + size]
    return grown
