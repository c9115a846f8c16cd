"""What is behind the person: a gradient, stripes and two soft shapes, of any colours."""

import numpy as np

from .draws import Draws
from .region import Region, pixel_grid
from .shapes import bump, coverage, sine, step


def colour(draws: Draws, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Returns [3, n, 1, 1] float32 of any hue, pale to vivid, in [low, high)."""
    grey = draws.image(f"{name}_grey", low, high)
    vivid = draws.image(f"{name}_vivid", 0.15, 0.9)
    return np.stack([grey + vivid * (draws.image(f"{name}_{c}", low, high) - grey) for c in "rgb"])


def paint_background(region: Region, draws: Draws, shifted: bool) -> None:
    """Paints all pixels. `shifted` gives hard-edged tiles instead of walls and stripes."""
    grid = pixel_grid(region.pixels.shape[-1])
    u, v = grid[None, None, :], grid[None, :, None]
    across, down = draws.image("bg_across", -1, 1), draws.image("bg_down", -1, 1)
    slope = across * u + down * v
    # From a long gradient to the edge of a wall.
    ramp = step(
        0.5 + slope * draws.image("bg_steep", 0.4, 4.0) + draws.image("bg_start", -0.4, 0.4)
    )
    first, second = colour(draws, "bg_first"), colour(draws, "bg_second")
    np.multiply(second - first, ramp, out=region.pixels)
    region.pixels += first
    if shifted:
        rate = draws.image("bg_tiles", 1.5, 3.5)
        tiles = sine(u * rate) * sine(v * rate + draws.image("bg_phase"))
        region.paint(step(0.5 + 6.0 * tiles), colour(draws, "bg_tile"))
        return
    rate = draws.image("bg_rate", 0.5, 2.2)
    waves = sine(rate * (draws.image("bg_lean", -1, 1) * u + v) + draws.image("bg_phase"))
    region.shade(1.0 + np.maximum(draws.image("bg_wave", -0.2, 0.2), 0.0) * waves)
    for shape in ("bg_disc", "bg_haze"):
        du = u - draws.image(shape + "_u", -1.1, 1.1)
        dv = v - draws.image(shape + "_v", -1.1, 1.1)
        squared = (du * du + dv * dv) / draws.image(shape + "_size", 0.1, 0.5)
        if shape == "bg_disc":
            alpha = 0.8 * coverage(squared - 1.0, draws.image("bg_focus", 0.1, 0.6))
        else:
            alpha = 0.7 * bump(squared)
        region.paint(alpha, colour(draws, shape))
