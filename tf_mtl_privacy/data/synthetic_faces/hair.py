"""Hair behind the head and on it, in styles from bald to long and wavy."""

import numpy as np

from .draws import Draws
from .looks import Looks
from .pose import Pose
from .region import Region
from .shapes import coverage, sine, step


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
