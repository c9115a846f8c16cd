"""How the head is held: place, size, roll, yaw and pitch, and the frame that follows it."""

from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.shapes import cosine, sine

# Windows are cut for the largest head that any pose or shift can give.
LARGEST_SCALE = 1.15


class Pose(NamedTuple):
    """The map between the picture, [-1, 1]^2, and the face, whose half-width is about 0.6.

    All fields are [n, 1, 1] float32.

    Attributes:
      cos, sin: of the roll.
      u, v: where the face's origin lies in the picture.
      scale: picture units in a face unit.
      yaw, pitch: how far the middle of the face has turned right and down, in face units.
      pixel: face units in a pixel.
    """

    cos: np.ndarray
    sin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    scale: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    pixel: np.ndarray

    def to_face(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps picture coordinates to face coordinates; arguments broadcast to [n, h, w]."""
        cos, sin = self.cos / self.scale, self.sin / self.scale
        du, dv = u - self.u, v - self.v
        return cos * du + sin * dv, cos * dv - sin * du

    def to_picture(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps face coordinates to picture coordinates."""
        across = (self.cos * x - self.sin * y) * self.scale
        down = (self.sin * x + self.cos * y) * self.scale
        return self.u + across, self.v + down


def draw_pose(draws: Draws, size: int, small: np.ndarray, shifted: bool) -> Pose:
    """Draws a pose for each face.

    Args:
      draws: the random numbers.
      size: pixels of the picture's side.
      small: [n, 1, 1] float32 in [0, 1], how much smaller than a grown-up's the head is.
      shifted: whether heads are held askew, off the middle and turned more than usual.
    """
    roll = draws.image("roll", -1.0, 1.0) * np.float32(0.055 if shifted else 0.024)
    reach = np.float32(1.8 if shifted else 1.0)
    turn = np.float32(1.7 if shifted else 1.0)
    scale = draws.image("scale", 0.82 if shifted else 0.92, 1.06) * (1.0 - 0.08 * small)
    return Pose(
        cos=cosine(roll),
        sin=sine(roll),
        u=draws.image("place_u", -0.10, 0.10) * reach,
        v=draws.image("place_v", -0.085, 0.085) * reach + np.float32(0.04),
        scale=scale,
        yaw=draws.image("yaw", -0.048, 0.048) * turn,
        pitch=draws.image("pitch", -0.038, 0.038) * turn,
        pixel=np.float32(2.0 / size) / scale,
    )
