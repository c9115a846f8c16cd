"""Layers of a face: background, body, head, hair, wrinkles, beard, eyes, nose, mouth, glasses.

The eight patterns of the iris are the private label; no other layer depends on it.
"""

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.geometry import (
    Pose,
    Region,
    bump,
    coverage,
    pixel_grid,
    sine,
    step,
    stroke,
)
from tf_mtl_privacy.data.synthetic_faces.looks import Looks, mix


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


def _cap(
    region: Region, looks: Looks, volume: np.ndarray | float, length: np.ndarray | float
) -> np.ndarray:
    """Returns the signed distance to a skull-shaped cap drawn down by `length`."""
    width = looks.head_width + volume
    y = region.y + 0.12
    y = np.where(y > 0.0, np.maximum(y - length, 0.0), y)
    height = looks.head_top - 0.12 + volume
    return (np.sqrt((region.x / width) ** 2 + (y / height) ** 2) - 1.0) * width


def _volume(draws: Draws, looks: Looks) -> np.ndarray:
    return draws.person("hair_volume", 0.02, 0.10) + 0.03 * (1.0 - looks.male)


def _locks(region: Region, draws: Draws, rate: float) -> np.ndarray:
    """Returns a factor about 1 that draws broad strands and a band of gloss."""
    bend = region.x * region.x * draws.person("hair_bend", -0.4, 0.4)
    strands = sine((region.x + bend * region.y) * rate + draws.person("hair_phase"))
    gloss = sine(region.y * 0.8 + 0.6 * region.x * region.x + draws.image("hair_gloss"))
    return 1.0 + 0.13 * strands + 0.12 * gloss


def paint_back_hair(region: Region, draws: Draws, looks: Looks) -> None:
    """Paints what hangs behind the neck: long for most women, for some men too."""
    long_hair = draws.person("hair_long")
    long_share = 0.15 + 0.53 * (1.0 - looks.male)
    fullness = draws.person("hair_length", 0.45, 1.25)
    length = np.where(long_hair < long_share, fullness, draws.person("hair_nape", 0.0, 0.22))
    waves = draws.person("hair_wave", -0.02, 0.05)
    wavy = np.maximum(waves, 0.0) * sine(region.y * draws.person("hair_waves", 1.2, 2.6))
    bent = Region(region.x + wavy, region.y, region.pixel, region.pixels)
    distance = _cap(bent, looks, _volume(draws, looks) * 1.1, length)
    alpha = coverage(distance, region.pixel)
    region.paint(alpha, looks.hair * (0.72 * _locks(bent, draws, 2.6)))


def paint_front_hair(region: Region, pose: Pose, draws: Draws, looks: Looks) -> None:
    """Paints the hair above the hairline: a fringe, a parting, temples or receding."""
    x, y = region.x, region.y
    turned = x - 0.7 * pose.yaw
    side = turned - draws.person("hair_parting", -0.3, 0.3)
    high = draws.person("hairline", 0.0, 1.0)
    recede = np.maximum(looks.old, 0.0) * (0.10 + 0.25 * looks.male) * draws.person("receding")
    arch = draws.person("hair_arch", 0.3, 1.5) - 0.5 * looks.male
    arch = np.where(draws.person("hair_fringe") < 0.30, np.float32(0.15), arch)
    line = -0.52 + 0.20 * high - recede + arch * side * side + pose.pitch
    # Straight temples: beyond most of the width the hairline falls to the ears.
    fall = draws.person("sideburns", 0.5, 1.0) * (0.6 + 0.4 * looks.manly)
    line = line + fall * step((np.abs(turned) / looks.head_width - 0.72) * 3.6)
    bald = looks.male * (draws.person("bald") < 0.03 + 0.27 * np.maximum(looks.old, 0.0))
    line = line - 1.2 * bald
    volume = _volume(draws, looks)
    distance = np.maximum(_cap(region, looks, volume, 0.0), y - line)
    alpha = coverage(distance, region.pixel * draws.person("hair_edge", 1.0, 2.0))
    # The hair throws a shadow on the forehead.
    shadow = step(1.0 - (y - line) / 0.16) * (1.0 - bald)
    region.shade(1.0 - 0.22 * shadow * coverage(_cap(region, looks, -0.01, 0.35), region.pixel))
    region.paint(alpha, looks.hair * _locks(region, draws, 2.1))


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


# How far a pattern moves red, green and blue of the iris, in [0, 1] of the picture: from green to
# purple, which light, lids and eye colours seldom do, so that a faint pattern can be told.
TINT = (0.09, -0.145, 0.09)


def iris_pattern(x: np.ndarray, y: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Returns the pattern, in [-1, 1].

    High values, which are purple, lie in classes 0 and 1 on the left and on the right, in 2 and 3
    above and below or on both sides, in 4 and 5 on one or other diagonal, in 6 inside and in 7
    outside.

    Args:
      x, y: [n, h, w] float32 place, right and down, in iris radii.
      kind: [n, 1, 1] int32 in [0, 8).

    Returns:
      [n, h, w] float32.
    """
    squared = x * x + y * y
    # The centre is given to the pupil; the floor keeps the angle's cosine finite there.
    inverse = 1.0 / np.maximum(squared, 0.05)
    side = x * np.sqrt(inverse)
    upright = (y * y - x * x) * inverse
    slanting = 2.0 * x * y * inverse
    ring = (0.50 - squared) * 3.0
    sign = (1 - 2 * (kind % 2)).astype(np.float32)
    family = kind // 2
    wave = np.where(
        family == 0, -side, np.where(family == 1, upright, np.where(family == 2, slanting, ring))
    )
    return np.clip(1.6 * sign * wave, -1.0, 1.0)


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
