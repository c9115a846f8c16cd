"""Sheets of images: originals over restored ones, and maps of sensitive regions over faces.

`write_pictures` writes both sheets beside a result file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tf_mtl_privacy.files import write_atomic

if TYPE_CHECKING:
    from tf_mtl_privacy.config import DataConfig
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
_BACKGROUND = 255
_PICTURES, _PICTURE_PIXELS = 16, 128
# Larger: a sensitive region may be a few pixels of the picture.
_REGIONS, _REGION_PIXELS = 8, 192


def write_pictures(
    run: SavedRun, dataset: Dataset, used: DataConfig, split: str, results: Path
) -> None:
    """Writes sheets of the first faces of a split, if the model has the parts for them.

    The first sheet shows faces over the images restored from their features; it needs a restorer.
    The second shows, from top to bottom: faces, their sensitive regions with the true region
    outlined if known, the encoder's masked input, and restored images.

    Args:
        run: a finished run.
        dataset: the source of the faces.
        used: its options.
        split: of the faces.
        results: the result file beside which the sheets are written.
    """
    # Imported here: the check client needs the sheets, not TensorFlow or runs.
    from tf_mtl_privacy.reporting.runs import picture_names
    from tf_mtl_privacy.training.inference import predict_images

    rows = dataset.rows[split][:_PICTURES]
    images, restored = dataset.store.images(rows), None
    names = [results.with_name(name) for name in picture_names(results.name)]
    if run.bundle.restorer is not None:
        restored = predict_images(run.bundle, images, restore=True).restored
        assert restored is not None
        sheet = comparison_sheet([enlarged(part, _PICTURE_PIXELS) for part in (images, restored)])
        _write(names[0], sheet)
    versions = _regions(run, dataset, used, rows[:_REGIONS], images[:_REGIONS])
    if versions:
        if restored is not None:
            versions.append(enlarged(restored[:_REGIONS], _REGION_PIXELS))
        _write(names[1], comparison_sheet(versions))


def _regions(
    run: SavedRun, dataset: Dataset, used: DataConfig, rows: Any, images: Any
) -> list[Any]:
    """Enlarged versions of the images, one per line of the sheet; empty without regions."""
    from tf_mtl_privacy.evaluation.regions import known_regions
    from tf_mtl_privacy.training.region_maps import region_maps, region_source, seen_pictures

    if run.single_task or region_source(run.bundle) is None:
        return []
    heat, covered = region_maps(run.bundle)(images)
    marked = enlarged(heat_over(images, heat), _REGION_PIXELS)
    truth = known_regions(run, dataset, used)
    if not isinstance(truth, str):
        inside = enlarged(truth[1](rows)[..., None], _REGION_PIXELS)[..., 0]
        marked = outlined(marked, inside)
    versions = [enlarged(images, _REGION_PIXELS), marked]
    if covered is not None:
        versions.append(enlarged(seen_pictures(run.bundle.encoder, images), _REGION_PIXELS))
    return versions


def _write(path: Path, sheet: Any) -> None:
    write_atomic(path, png_bytes(sheet), private=True)


def contact_sheet(images: Array, columns: int = 8, gap: int = 2) -> Array:
    """Images in rows of `columns` on white, ordered like text.

    Args:
        images: `[N, H, W, 3]` uint8, N > 0.
        columns: images per row.
        gap: white pixels around each image.

    Returns:
        `[rows * (H + gap) + gap, columns * (W + gap) + gap, 3]` uint8.

    Raises:
        ValueError: not such an array, or nothing to show.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"expected [N, H, W, 3] uint8, got {images.shape} {images.dtype}")
    number, height, width, _ = images.shape
    columns = min(columns, number)
    lines = -(-number // columns)
    shape = (lines * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, _BACKGROUND, np.uint8)
    for position, image in enumerate(images):
        line, column = divmod(position, columns)
        top, left = gap + line * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def comparison_sheet(rows: Sequence[Array], columns: int = 8, gap: int = 2) -> Array:
    """Several versions of the same images one above the other, such as original over restored.

    Args:
        rows: versions, each `[N, H, W, 3]` uint8, N > 0.
        columns: images per row; further images follow below.
        gap: white pixels around each image.

    Raises:
        ValueError: versions of different shapes.
    """
    if len({version.shape for version in rows}) != 1:
        raise ValueError(f"expected equal shapes, got {[version.shape for version in rows]}")
    number = len(rows[0])
    columns = min(columns, number)
    blank = np.full_like(rows[0][:1], _BACKGROUND)
    lines = []
    for start in range(0, number, columns):
        for version in rows:
            part = version[start : start + columns]
            lines += [part, *[blank] * (columns - len(part))]
    return contact_sheet(np.concatenate(lines), columns, gap)


def png_bytes(image: Array) -> bytes:
    """`[H, W, 3]` uint8 as a PNG file's content."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def enlarged(images: Array, pixels: int) -> Array:
    """Images `[N, H, W, 3]` with pixels repeated until they are about `pixels` wide."""
    factor = max(1, pixels // images.shape[2])
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


# The "cividis" colour map (Nunez et al. 2018), safe for red-green colour blindness.
_HEAT = np.array(
    [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]],
    np.float64,
)
# Opacity of the map at its maximum; at 0 the face shows through.
_MOST_OPAQUE = 0.85
_GREY = np.array([0.299, 0.587, 0.114])


def heat_over(images: Array, maps: Array) -> Array:
    """Grey faces under a map: yellow at its maximum in the image, blue where low.

    Args:
        images: `[N, H, W, 3]` uint8.
        maps: `[N, H, W]` float, at least 0; each is scaled to its own maximum.

    Returns:
        `[N, H, W, 3]` uint8.
    """
    peak = maps.max(axis=(1, 2), keepdims=True)
    share = np.where(peak > 0, maps / np.where(peak > 0, peak, 1.0), 0.0)
    place = share * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., np.newaxis]
    colour = (1.0 - part) * _HEAT[low] + part * _HEAT[low + 1]
    grey = np.repeat((images @ _GREY)[..., np.newaxis], 3, axis=-1)
    opaque = _MOST_OPAQUE * np.sqrt(share)[..., np.newaxis]
    return np.rint((1.0 - opaque) * grey + opaque * colour).astype(np.uint8)


def outlined(images: Array, regions: Array) -> Array:
    """Images with a black and white outline just outside the regions.

    Args:
        images: `[N, H, W, 3]` uint8.
        regions: `[N, H, W]` bool.
    """
    drawn, inner = images.copy(), _grown(regions)
    drawn[_grown(inner)] = 255
    drawn[inner] = 0
    drawn[regions] = images[regions]
    return drawn


def _grown(regions: Array) -> Array:
    """Regions and their eight-connected neighbours."""
    padded = np.pad(regions, ((0, 0), (1, 1), (1, 1)))
    height, width = regions.shape[1:]
    near = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.any(near, axis=0)
