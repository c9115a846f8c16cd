"""Renders synthetic faces: checks a request, cuts it into chunks, and paints each chunk."""

import concurrent.futures
import os
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.synthetic_faces import features, lighting
from tf_mtl_privacy.data.synthetic_faces.attributes import SHIFTS, SIZES, Faces, Labels, draw_labels
from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.geometry import Window, draw_pose, whole
from tf_mtl_privacy.data.synthetic_faces.looks import draw_looks

# Small enough for the caches, large enough that threads rarely wait for each other (images a second
# on two cores by chunk: 24: 892, 48: 1,412, 96: 1,299).
_CHUNK_PIXELS = 48 * 64 * 64


class Style(NamedTuple):
    """Style of the pictures, apart from their random numbers.

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


def labels(
    seed: int,
    stream: str,
    indices: np.ndarray,
    *,
    num_identities: int = 0,
    correlation: float = 0.0,
) -> Labels:
    """Returns the labels that `render` returns for the same arguments, without the pictures.

    Raises:
      ValueError: as `render` does.
    """
    indices = _checked(seed, stream, indices, num_identities, correlation)
    return draw_labels(seed, stream, indices, num_identities, correlation)


def render(
    seed: int,
    stream: str,
    indices: np.ndarray,
    *,
    size: int = 64,
    num_identities: int = 0,
    shift: str = "none",
    correlation: float = 0.0,
) -> Faces:
    """Renders the faces with the given indices; each depends on its own index only.

    Args:
      seed: any int; other seeds give other faces.
      stream: a name such as "train" or "test"; other streams give other faces.
      indices: [N] integers >= 0, in any order.
      size: pixels of the picture's side, a multiple of 8 in [32, 128].
      num_identities: number of people. Each looks the same in all streams, apart from pose, light,
        expression and background; 0 makes every face a different person.
      shift: one of `SHIFTS`, the shift of the pictures' distribution. Labels do not change.
      correlation: in [0, 1], share of faces whose iris class is one of the four that belong to
        their gender; 0 keeps all labels independent.

    Returns:
      `Faces` of N pictures.

    Raises:
      ValueError: if an argument is out of its range.
    """
    indices = _checked(seed, stream, indices, num_identities, correlation)
    if size not in SIZES:
        raise ValueError(f"Expected size to be a multiple of 8 in [32, 128], got size={size!r}.")
    if shift not in SHIFTS:
        raise ValueError(f"Expected shift to be one of {SHIFTS}, got shift={shift!r}.")
    drawn = draw_labels(seed, stream, indices, num_identities, correlation)
    return render_labelled(seed, stream, indices, drawn, Style(int(size), shift))


def render_labelled(
    seed: int, stream: str, indices: np.ndarray, drawn: Labels, style: Style
) -> Faces:
    """Renders faces with given labels; everything else depends on the random numbers as usual.

    For tests and measurements, such as the same faces with another iris or with none.

    Args:
      seed: as for `render`.
      stream: as for `render`.
      indices: [N] int64.
      drawn: the labels to paint.
      style: size, shift and gain of the iris pattern.

    Returns:
      `Faces` of N pictures.
    """
    count, size = len(indices), style.size
    image = np.empty((count, size, size, 3), np.uint8)
    mask = np.empty((count, size, size), bool)
    chunk = max(1, _CHUNK_PIXELS // (size * size))
    people = drawn.identity if count and drawn.identity[0] >= 0 else None
    draws = Draws(seed, stream, indices, people)

    def paint_chunk(start: int) -> None:
        rows = slice(start, start + chunk)
        some = Labels(*(field[rows] for field in drawn))
        image[rows], mask[rows] = paint(draws.part(rows), some, style)

    starts = range(0, count, chunk)
    workers = min(len(starts), os.cpu_count() or 1, 8)
    if workers > 1:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(paint_chunk, starts))
    else:
        for start in starts:
            paint_chunk(start)
    return Faces(image, *drawn, mask)


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
    # The nose protrudes, so it moves more than the rest when the head turns.
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


def _checked(
    seed: int, stream: str, indices: np.ndarray, num_identities: int, correlation: float
) -> np.ndarray:
    """Returns `indices` as [N] int64; raises ValueError for an argument out of its range."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(f"Expected seed to be an int, got seed={seed!r}.")
    if not isinstance(stream, str) or not stream:
        raise ValueError(f"Expected stream to be a name, got stream={stream!r}.")
    indices = np.asarray(indices)
    if indices.size == 0:
        indices = indices.astype(np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            "Expected indices to be a one-dimensional array of integers, got shape "
            f"{indices.shape} and dtype {indices.dtype}."
        )
    if indices.size and indices.min() < 0:
        raise ValueError(f"Expected indices >= 0, got {indices.min()}.")
    whole = isinstance(num_identities, (int, np.integer)) and not isinstance(num_identities, bool)
    if not whole or not 0 <= num_identities < 2**31:
        raise ValueError(
            f"Expected num_identities to be an int in [0, 2**31), got {num_identities!r}."
        )
    if not 0.0 <= correlation <= 1.0:
        raise ValueError(f"Expected correlation in [0, 1], got correlation={correlation!r}.")
    return indices.astype(np.int64)
