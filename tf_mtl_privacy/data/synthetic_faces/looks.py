"""Appearance of a person: proportions and colours that several layers share."""

from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.attributes import CHILD, MALE, MIDDLE, SENIOR, Labels
from tf_mtl_privacy.data.synthetic_faces.draws import Draws

Colour = tuple[float, float, float] | np.ndarray


class Looks(NamedTuple):
    """Proportions in face units and colours in [0, 1].

    Numbers are [n, 1, 1] float32, colours [3, n, 1, 1] float32.

    Attributes:
      male, child, smile: 0 or 1.
      old: about 0 young, 0.6 middle-aged, 1.1 senior.
      manly: about 1 for men, 0 for women, less apart for children; soft, with overlap.
      head_width, head_top, chin: reach of the head from the origin to side, top and bottom.
      jaw: how square the lower face is, in about [0, 1].
      eye_x, eye_y, eye_size: place (of the right one) and size (1 is usual) of the eyes.
      nose_y, mouth_y: height of nose and mouth, down from the origin.
      skin, hair: base colours.
    """

    male: np.ndarray
    child: np.ndarray
    smile: np.ndarray
    old: np.ndarray
    manly: np.ndarray
    head_width: np.ndarray
    head_top: np.ndarray
    chin: np.ndarray
    jaw: np.ndarray
    eye_x: np.ndarray
    eye_y: np.ndarray
    eye_size: np.ndarray
    nose_y: np.ndarray
    mouth_y: np.ndarray
    skin: np.ndarray
    hair: np.ndarray


def _flag(condition: np.ndarray) -> np.ndarray:
    return condition.astype(np.float32)[:, None, None]


def mix(first: Colour, second: Colour, amount: np.ndarray) -> np.ndarray:
    """Returns a [3, n, 1, 1] blend of two colours (triples or [3, n, 1, 1]) by `amount`."""
    start, end = _as_colour(first), _as_colour(second)
    return start + (end - start) * amount


def _as_colour(colour: Colour) -> np.ndarray:
    return np.asarray(colour, np.float32).reshape(3, -1, 1, 1)


def draw_looks(draws: Draws, labels: Labels, strange_colours: bool) -> Looks:
    """Draws the looks of each person; `strange_colours` shifts skin and hair dyes."""
    male, child, smile = (
        _flag(labels.gender == MALE),
        _flag(labels.age == CHILD),
        _flag(labels.expression == 1),
    )
    middle, senior = _flag(labels.age == MIDDLE), _flag(labels.age == SENIOR)
    old = 0.58 * middle + 1.08 * senior + draws.person("old", -0.09, 0.09)
    # Children's faces differ less by gender than adults' faces.
    manly = 0.5 + (male - 0.5) * (1.0 - 0.25 * child) + draws.person_bell("manly", 0.11)
    return Looks(
        male=male,
        child=child,
        smile=smile,
        old=old,
        manly=manly,
        head_width=0.565 + 0.025 * manly + 0.03 * child + draws.person_bell("head_width", 0.02),
        head_top=0.74 + 0.03 * child + draws.person_bell("head_top", 0.02),
        chin=0.76 + 0.04 * manly - 0.13 * child + draws.person_bell("chin", 0.02),
        jaw=0.12 + 0.6 * manly - 0.2 * child + 0.2 * senior + draws.person_bell("jaw", 0.13),
        eye_x=0.265 + draws.person_bell("eye_x", 0.010),
        eye_y=0.02 + 0.085 * child + draws.person_bell("eye_y", 0.015),
        eye_size=1.0 + 0.06 * child - 0.03 * manly + draws.person_bell("eye_size", 0.025),
        nose_y=0.27 + 0.02 * child + draws.person_bell("nose_y", 0.015),
        mouth_y=0.50 - 0.045 * child + draws.person_bell("mouth_y", 0.015),
        skin=_skin(draws, strange_colours),
        hair=_hair(draws, old, senior, strange_colours),
    )


def _skin(draws: Draws, strange: bool) -> np.ndarray:
    """Returns a colour between pale and dark brown, some redder, some yellower."""
    tone = draws.person("skin_tone")
    light = mix((0.97, 0.83, 0.74), (0.80, 0.60, 0.45), np.minimum(2.0 * tone, 1.0))
    skin = mix(light, (0.45, 0.30, 0.22), np.maximum(2.0 * tone - 1.0, 0.0))
    warmth = draws.person("skin_warmth", -0.03, 0.03)
    tint = np.stack([warmth, np.zeros_like(warmth), -warmth])
    if strange:
        tint = tint + np.asarray((-0.06, 0.02, 0.06), np.float32).reshape(3, 1, 1, 1)
    return skin + tint


def _hair(draws: Draws, old: np.ndarray, senior: np.ndarray, strange: bool) -> np.ndarray:
    """Returns a natural hair colour, greying with age; a few of the young are dyed silver."""
    dark = mix((0.08, 0.06, 0.06), (0.38, 0.22, 0.12), draws.person("hair_brown"))
    fair = mix((0.62, 0.28, 0.12), (0.88, 0.72, 0.42), draws.person("hair_blond"))
    hair = mix(dark, fair, (draws.person("hair_fair") < 0.38).astype(np.float32))
    if strange:
        dye = mix((0.15, 0.35, 0.65), (0.60, 0.15, 0.45), draws.person("hair_dye"))
        hair = mix(hair, dye, (draws.person("hair_dyed") < 0.6).astype(np.float32))
    grey = np.clip(1.2 * old - 0.45 + draws.person_bell("greying", 0.15), 0.0, 0.95)
    keeps_colour = draws.person("keeps_colour") < 0.10 + 0.05 * senior
    grey = np.where(keeps_colour, np.float32(0.1), grey)
    grey = np.where(draws.person("silver_dye") < 0.04, np.float32(0.85), grey)
    silver = mix((0.62, 0.62, 0.64), (0.90, 0.89, 0.87), draws.person("silver"))
    return mix(hair, silver, grey)
