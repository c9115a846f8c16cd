"""Wrinkles, folds and beards: what years and shaving leave on the skin."""

import numpy as np

from .draws import Draws
from .looks import Looks
from .pose import Pose
from .region import Region
from .shapes import bump, coverage, sine, step, stroke


def paint_forehead_lines(region: Region, draws: Draws, looks: Looks) -> None:
    """Shades level furrows on the forehead, deeper with age."""
    depth = np.clip(0.52 * looks.old - 0.05 + draws.person_bell("furrows", 0.045), 0.0, 0.5)
    arc = region.y + 0.25 * region.x * region.x
    furrows = step(sine(arc * draws.person("furrow_rate", 7.0, 9.0) + draws.image("furrow_phase")))
    where = bump((region.x / 0.42) ** 2) * bump((region.y / 0.17) ** 2)
    region.shade(1.0 - depth * furrows * where)


def paint_eye_lines(region: Region, side: float, draws: Draws, looks: Looks) -> None:
    """Shades the bag under one eye and crow's feet beside it."""
    x, y = region.x * side, region.y
    bags = np.clip(0.40 * looks.old - 0.02 + draws.person_bell("bags", 0.06), 0.0, 0.5)
    fold = stroke(x, y - 0.215 + 0.9 * x * x, 0.20, 0.030)
    region.shade(1.0 - bags * fold)
    feet = np.clip(0.55 * looks.old - 0.15 + 0.10 * looks.smile, 0.0, 0.5)
    for tilt in (-0.55, 0.0, 0.55):
        ray = stroke(x - 0.275, y - 0.01 - tilt * (x - 0.20), 0.055, 0.018)
        region.shade(1.0 - feet * ray)


def paint_cheek_folds(region: Region, draws: Draws, looks: Looks) -> None:
    """Shades the folds from nose to mouth: from age, and less from a smile."""
    depth = 0.46 * looks.old - 0.05 + 0.13 * looks.smile + draws.person_bell("folds", 0.05)
    depth = np.clip(depth, 0.0, 0.5)
    y = region.y
    for side in (-1.0, 1.0):
        x = region.x * side - 0.235 - 0.025 * looks.smile - 0.35 * y + 1.2 * y * y
        region.shade(1.0 - depth * stroke(y + 0.02, x, 0.17, 0.034))
    jowl = np.clip(0.30 * looks.old - 0.12, 0.0, 0.3)
    for side in (-1.0, 1.0):
        x = region.x * side - 0.27
        region.shade(1.0 - jowl * stroke(y - 0.20, x + 0.3 * (y - 0.2), 0.11, 0.032))


def paint_beard(
    region: Region, pose: Pose, draws: Draws, looks: Looks, outline: np.ndarray
) -> None:
    """Darkens chin and lip of grown men: shaven, stubble, moustache or full beard.

    `outline` is the [n, h, w] signed distance to the head in the same region.
    """
    style = draws.person("beard_style")
    grown = looks.male * (1.0 - looks.child)
    full = np.where(style < 0.25, draws.person("beard_full", 0.7, 0.95), np.float32(0.0))
    stubble = draws.person("stubble", 0.12, 0.36)
    strength = grown * np.maximum(full, stubble)
    x, y = region.x - pose.yaw, region.y - pose.pitch
    edge = looks.mouth_y - 0.16 - 0.9 * np.maximum(np.abs(x) - 0.22, 0.0)
    low = step((y - edge) * 9.0)
    mouth = bump((x / 0.26) ** 2 + ((y - looks.mouth_y) / 0.10) ** 2)
    beard = strength * low * (1.0 - 0.75 * np.minimum(2.0 * mouth, 1.0))
    region.paint(beard * coverage(outline + 0.01, 2.0 * region.pixel), 0.8 * looks.hair)
    moustache = (
        grown * (draws.person("moustache") < 0.25) * draws.person("moustache_dark", 0.5, 0.9)
    )
    lip = stroke(x, y - looks.mouth_y + 0.085 - 0.6 * x * x, 0.24, 0.055)
    region.paint(moustache * np.minimum(2.0 * lip, 1.0), 0.8 * looks.hair)
