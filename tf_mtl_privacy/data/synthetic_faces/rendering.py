"""The public calls: check the request, cut it into chunks, paint them."""

import concurrent.futures
import os

import numpy as np

from tf_mtl_privacy.data.synthetic_faces.attributes import SHIFTS, SIZES, Faces, Labels, draw_labels
from tf_mtl_privacy.data.synthetic_faces.draws import Draws
from tf_mtl_privacy.data.synthetic_faces.painter import Style, paint

# Small enough for the caches, large enough that threads seldom wait for each other (24: 892 images
# a second on two cores, 48: 1,412, 96: 1,299).
_CHUNK_PIXELS = 48 * 64 * 64


def labels(
    seed: int,
    stream: str,
    indices: np.ndarray,
    *,
    num_identities: int = 0,
    correlation: float = 0.0,
) -> Labels:
    """Returns the labels that `render` gives with the same arguments, without the pictures.

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
      num_identities: how many people there are, each of whom looks the same in all streams up to
        pose, light, expression and background; 0 makes every face a stranger.
      shift: one of `SHIFTS`, what to change about the distribution of the pictures. Labels stay.
      correlation: in [0, 1], the share of faces whose iris class is one of the four that belong
        to their gender; 0 keeps all labels independent.

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
    """Renders faces with labels of the caller's choice: all but the labels stays as it was.

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


def _checked(
    seed: int, stream: str, indices: np.ndarray, num_identities: int, correlation: float
) -> np.ndarray:
    """Returns `indices` as [N] int64, or says which argument is wrong."""
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
