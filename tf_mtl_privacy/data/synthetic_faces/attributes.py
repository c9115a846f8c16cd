"""What a synthetic face can be asked for: names of classes, shifts and limits."""

from typing import NamedTuple

import numpy as np

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
      identity: [N] int64 in [0, num_identities), or -1 where no identities were asked for.
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
      identity: [N] int64 in [0, num_identities), or -1 where no identities were asked for.
      iris_mask: [N, S, S] bool, True on every pixel that the iris label can change.
    """

    image: np.ndarray
    gender: np.ndarray
    age: np.ndarray
    expression: np.ndarray
    iris: np.ndarray
    identity: np.ndarray
    iris_mask: np.ndarray
