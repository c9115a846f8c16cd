"""The sheets of pictures that are written beside a result: restored faces and sensitive regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.reporting.run_files import picture_names

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.saved_run import SavedRun

_PICTURES, _PICTURE_PIXELS = 16, 128
# Larger: a sensitive region may be a few pixels of the picture.
_REGIONS, _REGION_PIXELS = 8, 192


def write_pictures(
    run: SavedRun, dataset: Dataset, used: DataConfig, split: str, results: Path
) -> None:
    """Writes the sheets of the first faces of a split, as far as the model has what they need.

    The first one has faces over what is restored from their features. The second has, from top to
    bottom: faces, what is marked in them with the true region outlined where it is known, what the
    encoder sees of them (with a mask), and what is restored (with a restorer).

    Args:
        run: a finished run.
        dataset: where the faces are.
        used: the options that it was opened with.
        split: which faces.
        results: the result file, beside which the sheets are written.
    """
    from tf_mtl_privacy.reporting.pictures import comparison_sheet, enlarged
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
    """Enlarged versions of the pictures; none where nothing is marked."""
    from tf_mtl_privacy.evaluation.regions import known_regions
    from tf_mtl_privacy.reporting.pictures import enlarged, heat_over, outlined
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
    from tf_mtl_privacy.reporting.pictures import png_bytes

    write_atomic(path, png_bytes(sheet), private=True)
