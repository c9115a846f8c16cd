"""Labels of synthetic faces, their classes, and the allowed shifts and sizes of pictures."""

from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces import draws

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("child", "young", "middle", "senior"),
    "expression": ("neutral", "smiling"),
    "iris": tuple(f"iris{k}" for k in range(8)),
}
FEMALE, MALE = range(2)
CHILD, YOUNG, MIDDLE, SENIOR = range(4)
NEUTRAL, SMILING = range(2)

SHIFTS: tuple[str, ...] = ("none", "colours", "light", "blur", "backgrounds", "poses", "all")
SIZES: tuple[int, ...] = tuple(range(32, 129, 8))


class Labels(NamedTuple):
    """Labels of N faces.

    Attributes:
      gender: [N] int32 in [0, 2), see `ATTRIBUTES`.
      age: [N] int32 in [0, 4).
      expression: [N] int32 in [0, 2).
      iris: [N] int32 in [0, 8), the private label.
      identity: [N] int64 in [0, num_identities), or -1 without identities.
    """

    gender: np.ndarray
    age: np.ndarray
    expression: np.ndarray
    iris: np.ndarray
    identity: np.ndarray


class Faces(NamedTuple):
    """N pictures of faces with their labels.

    Attributes:
      image: [N, S, S, 3] uint8, RGB.
      gender: [N] int32 in [0, 2), see `ATTRIBUTES`.
      age: [N] int32 in [0, 4).
      expression: [N] int32 in [0, 2).
      iris: [N] int32 in [0, 8), the private label.
      identity: [N] int64 in [0, num_identities), or -1 without identities.
      iris_mask: [N, S, S] bool, True on every pixel that the iris label can change.
    """

    image: np.ndarray
    gender: np.ndarray
    age: np.ndarray
    expression: np.ndarray
    iris: np.ndarray
    identity: np.ndarray
    iris_mask: np.ndarray


# Seed, stream and counters of a group of random numbers, as arguments of `draws.bits`.
_Source = tuple[int, str, np.ndarray]


def draw_labels(
    seed: int, stream: str, indices: np.ndarray, num_identities: int, correlation: float
) -> Labels:
    """Draws labels, uniform and independent unless `correlation` ties iris to gender.

    With probability `correlation` the iris is one of the four classes that belong to the gender
    (0 to 3 female, 4 to 7 male), which leaves each label's own distribution uniform.

    Args:
      seed: any int.
      stream: name of the stream.
      indices: [N] int64.
      num_identities: number of people, or 0 to make every face a different person.
      correlation: in [0, 1].

    Returns:
      `Labels`. With people, gender, age and iris are those of the person.
    """
    image: _Source = (seed, "image:" + stream, indices)
    if num_identities:
        identity = draws.below(draws.bits(*image, "label:identity"), num_identities)
        person: _Source = (seed, "people", identity)
    else:
        identity = np.full(indices.shape, -1, np.int64)
        person = (seed, "stranger:" + stream, indices)

    def pick(source: _Source, name: str) -> np.ndarray:
        words = draws.bits(*source, "label:" + name)
        return draws.below(words, len(ATTRIBUTES[name])).astype(np.int32)

    gender, age, iris = (pick(person, name) for name in ("gender", "age", "iris"))
    tied = draws.unit(draws.bits(*person, "label:tied")) < np.float32(correlation)
    iris = np.where(tied, iris % 4 + 4 * gender, iris).astype(np.int32)
    return Labels(gender, age, pick(image, "expression"), iris, identity)
