"""Eyes: opening, sclera, iris, pupil, lids and lashes."""

import numpy as np

from .draws import Draws
from .iris import TINT, iris_pattern
from .looks import Looks, mix
from .region import Region
from .shapes import coverage, step

RADIUS = 0.150
_WIDTH = 0.215


def _iris_colour(draws: Draws) -> np.ndarray:
    """Returns the iris's own colour, [3, n, 1, 1]: brown, hazel, green, blue, grey or violet."""
    warm = mix((0.44, 0.32, 0.20), (0.54, 0.46, 0.26), draws.person("iris_warm"))
    cold = mix((0.34, 0.50, 0.40), (0.38, 0.52, 0.66), draws.person("iris_cold"))
    base = mix(warm, cold, (draws.person("iris_is_cold") < 0.5).astype(np.float32))
    # Own colours differ along the patterns' axis too: purple by itself says nothing of the class.
    tint = np.asarray(TINT, np.float32).reshape(3, 1, 1, 1)
    return base * draws.person("iris_lightness", 0.9, 1.2) + tint * draws.person("iris_hue", -1, 1)


def paint_eye(
    region: Region,
    side: float,
    draws: Draws,
    looks: Looks,
    kind: np.ndarray,
    pattern_gain: float,
) -> np.ndarray:
    """Paints one eye about the middle of the region.

    Args:
      region: a window centred on the eye.
      side: -1 for the left of the picture, 1 for the right.
      draws: the random numbers.
      looks: the person.
      kind: [n, 1, 1] int32 iris class.
      pattern_gain: 1, or 0 to leave the pattern out.

    Returns:
      [n, h, w] bool, True where the pattern can show.
    """
    x = region.x * side
    tilt = draws.person("eye_tilt", -0.10, 0.14)
    y = region.y + tilt * x
    size = looks.eye_size
    shape = 1.0 - (x / (_WIDTH * size)) ** 2
    upper = (0.158 - 0.012 * looks.old + draws.image("lid", -0.022, 0.006)) * size
    lower = (0.138 - 0.040 * looks.smile + draws.person("lower_lid", -0.008, 0.008)) * size
    opening = np.maximum(-y - upper * shape, y - lower * shape)
    opened = coverage(opening, region.pixel)
    _paint_lid_colour(region, y, upper * shape, draws, looks)
    lid_shadow = 1.0 - 0.28 * step(1.0 - (y + upper * shape) / 0.10)
    white = draws.person("sclera", 0.86, 0.97) * lid_shadow
    region.paint(opened, np.stack([white, 0.98 * white, 0.97 * white]))

    gaze_x, gaze_y = draws.image("gaze_x", -0.022, 0.022), draws.image("gaze_y", -0.012, 0.014)
    iris_x, iris_y = (region.x - gaze_x) / RADIUS, (region.y - gaze_y) / RADIUS
    radius = np.sqrt(iris_x * iris_x + iris_y * iris_y)
    disc = coverage((radius - 1.0) * RADIUS, region.pixel) * opened
    rim = 1.0 - draws.person("iris_rim", 0.25, 0.5) * step((radius - 0.80) * 5.0)
    tint = np.asarray(TINT, np.float32).reshape(3, 1, 1, 1) * np.float32(pattern_gain)
    colour = _iris_colour(draws) + tint * iris_pattern(iris_x, iris_y, kind)
    region.paint(disc, colour * (rim * lid_shadow))

    dilated = draws.image("pupil", 0.26, 0.36)
    pupil = coverage((radius - dilated) * RADIUS, region.pixel) * opened
    region.paint(pupil, np.full((3, 1, 1, 1), 0.05, np.float32))
    glint_x, glint_y = iris_x - draws.image("glint_x", -0.25, 0.25), iris_y + 0.45
    glint = np.sqrt(glint_x * glint_x + glint_y * glint_y)
    region.paint(
        coverage((glint - 0.20) * RADIUS, region.pixel) * opened,
        np.full((3, 1, 1, 1), 0.97, np.float32),
    )
    _paint_lids(region, x, y, upper, lower, draws, looks)
    return disc > 0.0


def _paint_lid_colour(
    region: Region, y: np.ndarray, edge: np.ndarray, draws: Draws, looks: Looks
) -> None:
    """Tints the upper lid, for most women and few men; `edge` ([n, h, w]) is its lower rim."""
    made_up = np.clip(0.85 - looks.manly, 0.0, 0.7) * (1.0 - 0.4 * looks.child)
    lid = np.maximum(edge - 0.02 + y, -y - 1.3 * edge - 0.03)
    lid = np.maximum(lid, -edge)
    hue = mix((0.50, 0.22, 0.42), (0.22, 0.42, 0.58), draws.person("lid_hue"))
    strength = made_up * draws.person("lid_colour", 0.4, 1.0)
    region.paint(strength * coverage(lid, 2.0 * region.pixel), hue)


def _paint_lids(
    region: Region,
    x: np.ndarray,
    y: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    draws: Draws,
    looks: Looks,
) -> None:
    """Draws the lash line, the crease above it and the lower lid.

    `x` and `y` ([n, h, w]) are mirrored and tilted with the eye; `upper` and `lower` ([n, 1, 1])
    are the heights of the opening.
    """
    size = looks.eye_size
    inside = np.abs(x / size) - (_WIDTH + 0.01)
    shape = 1.0 - (x / (_WIDTH * size)) ** 2
    lashes = 0.018 + 0.030 * (1.0 - looks.manly) + draws.person_bell("lashes", 0.004)
    wing = 0.020 * (1.0 - looks.manly) * step(x / 0.2)
    edge = np.abs(y + upper * shape + wing) - 0.5 * lashes
    line = coverage(np.maximum(edge, inside - wing), region.pixel)
    region.paint(line, 0.35 * looks.hair * (1.0 - 0.3 * looks.old))
    crease = np.abs(y + (upper + 0.055) * shape - 0.012) - 0.010
    region.shade(1.0 - 0.38 * coverage(np.maximum(crease, inside + 0.05), region.pixel))
    under = np.abs(y - (lower + 0.006) * shape) - 0.008
    region.shade(1.0 - 0.30 * coverage(np.maximum(under, inside + 0.03), region.pixel))
