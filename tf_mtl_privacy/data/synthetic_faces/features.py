"""Brows, nose, mouth and glasses."""

import numpy as np

from .draws import Draws
from .looks import Looks, mix
from .region import Region
from .shapes import bump, coverage, step, stroke


def paint_brow(region: Region, side: float, draws: Draws, looks: Looks) -> None:
    """Paints one brow in the window of its eye: thick and low, or thin and arched."""
    x = region.x * side
    height = 0.238 - 0.022 * looks.manly + draws.image("brow_lift", -0.015, 0.02)
    arch = 0.055 - 0.04 * looks.manly + draws.person_bell("brow_arch", 0.012)
    slope = draws.person("brow_slope", -0.18, 0.08)
    along = x / 0.225
    centre = -height + slope * x - arch * (1.0 - along * along)
    thickness = 0.024 + 0.050 * looks.manly - 0.010 * looks.child
    thickness = thickness + draws.person_bell("brow_thickness", 0.006)
    taper = np.maximum(1.0 - np.maximum(along, -0.6) ** 2, 0.0)
    distance = np.maximum(np.abs(region.y - centre) - 0.5 * thickness * taper, np.abs(x) - 0.22)
    strength = 0.85 - 0.15 * looks.child
    region.paint(strength * coverage(distance, 1.3 * region.pixel), 0.7 * looks.hair)


def paint_nose(region: Region, draws: Draws, looks: Looks) -> None:
    """Shades a nose about the middle of the region: bridge, tip, wings and nostrils."""
    x, y = region.x, region.y
    width = 0.085 + 0.025 * looks.manly - 0.015 * looks.child + draws.person_bell("nose", 0.010)
    lit = draws.image("nose_light", -0.22, 0.22)
    bridge = bump(((np.abs(x) - 0.055) / 0.06) ** 2) * step(1.0 - y / 0.10) * step((y + 0.3) * 5.0)
    region.shade(1.0 - lit * bridge * np.where(x > 0.0, 1.0, -1.0) - 0.06 * bridge)
    tip = 0.14 * bump((x / 0.06) ** 2 + ((y - 0.01) / 0.09) ** 2)
    under = 0.24 * stroke(x, y - 0.085 + 1.2 * x * x, width * 1.3, 0.045)
    region.shade(1.0 + tip - under)
    for side in (-1.0, 1.0):
        at = x - side * width * 0.62
        hole = bump((at / 0.042) ** 2 + ((y - 0.068) / 0.026) ** 2)
        wing = stroke(y - 0.03, x - side * width - 3.0 * side * (y - 0.03) ** 2, 0.07, 0.03)
        region.shade(1.0 - 0.6 * hole - 0.28 * wing)


def paint_mouth(region: Region, draws: Draws, looks: Looks) -> None:
    """Paints lips about the middle of the region, curved up and often parted in a smile."""
    x = region.x
    width = 0.190 + 0.070 * looks.smile - 0.02 * looks.child + draws.person_bell("mouth", 0.012)
    curve = draws.image("mouth_curve", -0.030, 0.006) * (1.0 - looks.smile)
    curve = curve + draws.image("smile_curve", 0.100, 0.150) * looks.smile
    shape = 1.0 - (x / width) ** 2
    y = region.y - curve * (shape - 0.55)
    parted = draws.image("parted")
    smile_gap = np.where(parted < 0.65, draws.image("smile_gap", 0.03, 0.085), 0.0)
    still_gap = np.where(parted < 0.18, draws.image("still_gap", 0.02, 0.06), 0.0)
    gap = np.where(looks.smile > 0.5, smile_gap, still_gap).astype(np.float32)
    full = 1.0 - 0.45 * looks.manly - 0.15 * looks.old + draws.person_bell("lip_full", 0.12)
    upper, lower = 0.030 + 0.022 * full, 0.034 + 0.034 * full
    natural = looks.skin * np.asarray((0.80, 0.58, 0.56), np.float32).reshape(3, 1, 1, 1)
    stick = mix((0.72, 0.14, 0.20), (0.80, 0.36, 0.44), draws.person("lipstick_hue"))
    painted = (1.0 - looks.child) * np.clip(0.75 - 0.9 * looks.manly, 0.0, 1.0)
    lips = mix(natural, stick, painted * draws.person("lipstick", 0.35, 1.0))
    band = np.maximum(-y - (upper + 0.5 * gap) * shape, y - (lower + 0.5 * gap) * shape)
    gloss = 1.0 + 0.16 * bump((x / 0.10) ** 2 + ((y - 0.5 * gap - 0.03) / 0.025) ** 2)
    region.paint(coverage(band, region.pixel), lips * gloss)
    beyond = np.abs(x) - width
    opened = (gap > 0.0).astype(np.float32)
    inside = np.maximum(np.abs(y) - 0.5 * gap * shape, beyond)
    region.paint(opened * coverage(inside, region.pixel), np.full((3, 1, 1, 1), 0.16, np.float32))
    teeth = np.maximum(inside, y - 0.22 * gap) + 0.006
    shown = opened * looks.smile * coverage(teeth, region.pixel)
    region.paint(shown, np.full((3, 1, 1, 1), 0.93, np.float32))
    seam = np.maximum(np.abs(y) - 0.007, beyond)
    region.shade(1.0 - 0.5 * (1.0 - opened) * coverage(seam, region.pixel))
    corners = stroke(np.abs(x) - width - 0.012, y, 0.03, 0.03)
    region.shade(1.0 - 0.35 * corners)


def paint_glasses(region: Region, side: float, draws: Draws) -> None:
    """Puts a thin frame about one eye, well outside the iris, for about one person in eight."""
    worn = (draws.person("glasses") < 0.12).astype(np.float32)
    x, y = region.x, region.y
    wide, high = (
        draws.person("glasses_width", 0.225, 0.25),
        draws.person("glasses_height", 0.2, 0.24),
    )
    squared = (x / wide) ** 2 + (y / high) ** 2
    box = np.maximum(np.abs(x) - wide, np.abs(y) - high)
    ring = (np.sqrt(squared) - 1.0) * high
    edge = np.where(draws.person("glasses_square") < 0.5, box, ring)
    frame = np.abs(edge) - 0.014
    arm = np.maximum(np.abs(y + 0.05) - 0.014, np.abs(side * x - wide - 0.035) - 0.035)
    bridge = np.maximum(np.abs(y + 0.05) - 0.014, np.abs(side * x + wide + 0.03) - 0.03)
    alpha = coverage(np.minimum(frame, np.minimum(arm, bridge)), region.pixel)
    tint = draws.person("glasses_tint", 0.05, 0.45)
    region.paint(worn * alpha, np.stack([tint, 0.7 * tint, 0.6 * tint]))
