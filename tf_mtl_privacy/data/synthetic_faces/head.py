"""Shoulders, neck, ears and the shaded head."""

import numpy as np

from .background import colour
from .draws import Draws
from .looks import Looks
from .pose import Pose
from .region import Region, pixel_grid
from .shapes import bump, coverage, sine, step


def paint_body(region: Region, pose: Pose, draws: Draws, looks: Looks, strange: bool) -> None:
    """Paints neck, shoulders and clothes, upright whatever the roll of the head."""
    grid = pixel_grid(region.pixels.shape[-1])
    x = (grid[None, None, :] - pose.u) / pose.scale
    y = (grid[None, :, None] - pose.v) / pose.scale
    width = 0.22 + 0.06 * looks.manly - 0.05 * looks.child
    neck = np.maximum(np.abs(x) - width - 0.3 * np.maximum(y - 0.8, 0.0) ** 2, 0.3 - y)
    under_chin = 0.62 + 0.25 * step((y - 0.75) * 3.0)
    region.paint(coverage(neck, region.pixel), looks.skin * under_chin)
    slope = draws.person("shoulder_slope", 0.20, 0.55)
    top = 0.80 + slope * x * x + 0.04 * looks.child - 0.03 * looks.manly
    collar = draws.image("collar_depth", 0.02, 0.28)
    wide = draws.image("collar_width", 0.25, 0.5)
    distance = np.maximum(top - y, top + collar * (1.0 - np.abs(x) / wide) * 1.6 - y)
    cloth = colour(draws, "cloth", 0.05, 0.95)
    if strange:
        cloth = 1.0 - 0.5 * cloth
    rate = draws.image("cloth_rate", 1.0, 4.0)
    lean = draws.image("cloth_lean", -1.0, 1.0)
    weave = np.maximum(draws.image("cloth_stripes", -0.3, 0.25), 0.0)
    folds = 1.0 + weave * sine(rate * (y + lean * x)) - 0.25 * x * x
    region.paint(coverage(distance, region.pixel), cloth * folds)


def _half_width(y: np.ndarray, looks: Looks) -> np.ndarray:
    """Returns the half-width of the head's ellipse at each height, taking in the cheeks."""
    taper = step((y - 0.05) / (looks.chin - 0.05))
    return looks.head_width * (1.0 - (0.20 - 0.28 * looks.jaw) * taper)


def head_distance(region: Region, looks: Looks) -> np.ndarray:
    """Returns the signed distance ([n, h, w], face units) to the outline of the head."""
    y = region.y
    reach = np.where(y > 0.0, looks.chin, looks.head_top)
    radius = np.sqrt((region.x / _half_width(y, looks)) ** 2 + (y / reach) ** 2)
    return (radius - 1.0) * looks.head_width


def paint_ears(region: Region, pose: Pose, draws: Draws, looks: Looks) -> None:
    """Paints both ears; that on the far side of a turned head hides behind it."""
    size = draws.person("ear_size", 0.9, 1.1) + 0.08 * np.maximum(looks.old, 0.0)
    for side in (-1.0, 1.0):
        x = region.x - side * (looks.head_width + 0.005) + 0.8 * pose.yaw
        y = region.y - looks.eye_y - 0.12
        squared = (x / (0.11 * size)) ** 2 + (y / (0.19 * size)) ** 2
        alpha = coverage((np.sqrt(squared) - 1.0) * 0.13, region.pixel)
        region.paint(alpha, looks.skin * (0.90 - 0.30 * bump(2.2 * squared)))


def paint_head(region: Region, pose: Pose, draws: Draws, looks: Looks) -> None:
    """Paints the head as a rounded solid under a light from the side."""
    x = region.x / _half_width(region.y, looks)
    y = region.y / looks.head_top
    rim = x * x + 0.8 * y * y
    from_side = draws.image("head_light_x", -0.20, 0.20)
    from_above = draws.image("head_light_y", -0.16, 0.04)
    solid = 1.04 + from_side * x + from_above * y - 0.22 * rim * rim
    blush = draws.person("blush", 0.0, 0.10) + 0.05 * (1.0 - looks.manly)
    cheek_y = region.y - 0.26 - pose.pitch
    cheek_x = np.abs(region.x - pose.yaw) - 0.36
    cheeks = blush * bump((cheek_x * cheek_x + cheek_y * cheek_y) * 22.0)
    skin = looks.skin * solid
    skin[1:] *= 1.0 - cheeks
    region.paint(coverage(head_distance(region, looks), region.pixel), skin)
