"""Paints a chunk of faces, layer over layer from back to front."""

from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces import (
    features,
    lighting,
)
from tf_mtl_privacy.data.synthetic_faces.attributes import Labels
from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.looks import draw_looks
from tf_mtl_privacy.data.synthetic_faces.pose import draw_pose
from tf_mtl_privacy.data.synthetic_faces.region import Window, whole


class Style(NamedTuple):
    """How faces are painted, beyond what their random numbers say.

    Attributes:
      size: pixels of the picture's side.
      shift: one of `SHIFTS`.
      pattern_gain: 1, or 0 for irises without their pattern.
    """

    size: int
    shift: str
    pattern_gain: float = 1.0

    def shifts(self, kind: str) -> bool:
        """Returns whether the distribution is shifted in this respect."""
        return self.shift in (kind, "all")


def paint(draws: Draws, labels: Labels, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Paints one chunk of n faces.

    Returns:
      image: [n, S, S, 3] uint8.
      iris_mask: [n, S, S] bool.
    """
    count, size = len(labels.iris), style.size
    strange = style.shifts("colours")
    looks = draw_looks(draws, labels, strange)
    pose = draw_pose(draws, size, looks.child, style.shifts("poses"))
    canvas = np.empty((3, count, size, size), np.float32)
    region = whole(pose, canvas)

    features.paint_background(region, draws, style.shifts("backgrounds"))
    features.paint_back_hair(region, draws, looks)
    features.paint_body(region, pose, draws, looks, strange)
    features.paint_ears(region, pose, draws, looks)
    features.paint_head(region, pose, draws, looks)

    def window(x: np.ndarray | float, y: np.ndarray | float, half: tuple[float, float]) -> Window:
        return Window(pose, canvas, (x + pose.yaw, y + pose.pitch), half)

    with Window(pose, canvas, (0.0 * pose.yaw, looks.mouth_y + 0.05), (0.66, 0.50)) as part:
        part.x, part.y = part.x, part.y + looks.mouth_y + 0.05
        features.paint_beard(part, pose, draws, looks, features.head_distance(part, looks))
    with window(0.0, -0.42, (0.42, 0.17)) as part:
        features.paint_forehead_lines(part, draws, looks)
    with window(0.0, looks.mouth_y - 0.08, (0.40, 0.36)) as part:
        features.paint_cheek_folds(part, draws, looks)
    # The nose stands out, so that it moves more than the rest when the head turns.
    with window(0.4 * pose.yaw, looks.nose_y, (0.20, 0.32)) as part:
        features.paint_nose(part, draws, looks)
    with window(0.1 * pose.yaw, looks.mouth_y, (0.32, 0.20)) as part:
        features.paint_mouth(part, draws, looks)

    mask = np.zeros((count, size, size), bool)
    kind = labels.iris[:, None, None]
    for side in (-1.0, 1.0):
        eye = window(side * looks.eye_x, looks.eye_y, (0.34, 0.40))
        with eye as part:
            features.paint_eye_lines(part, side, draws, looks)
            features.paint_brow(part, side, draws, looks)
            shown = features.paint_eye(part, side, draws, looks, kind, style.pattern_gain)
            features.paint_glasses(part, side, draws)
        eye.put_mask(mask, shown)
    features.paint_front_hair(region, pose, draws, looks)

    lighting.light(canvas, draws, style.shifts("light"), strange)
    if style.shifts("blur"):
        lighting.blur(canvas, draws)
        mask = lighting.dilate(mask, lighting.BLUR_REACH)
    np.clip(canvas, 0.0, 1.0, out=canvas)
    canvas *= 255.0
    canvas += 0.5
    return np.ascontiguousarray(canvas.transpose(1, 2, 3, 0)).astype(np.uint8), mask
