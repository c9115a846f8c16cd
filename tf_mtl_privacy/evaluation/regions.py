"""Scores the image regions that a run marks as sensitive against known sensitive regions.

`marked_regions` builds the `regions` part of results.json. The functions below it score any map
that gives every pixel a number, higher where it is more sensitive; pictures whose true region is
empty have no figure and must be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.evaluation.schema import Regions
from tf_mtl_privacy.types import Array

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.region_maps import MakeMaps
    from tf_mtl_privacy.training.saved_run import SavedRun

# Candidate shares of a picture to be marked; chosen on validation rows.
SHARES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.36, 0.5)
# A disc as wide as an eye: lids are about 30 mm wide, pupils 63 mm apart.
EYE_RADIUS = 0.25
# Names of the true regions.
DATA_REGIONS = "regions of the data set"
EYE_DISCS = "discs around the eyes"
# Attributes visible at the eyes, by their names in CelebA and LFW. Brows are outside of the discs.
EYE_ATTRIBUTES = frozenset({"Narrow_Eyes", "Bags_Under_Eyes", "Eyeglasses"})
# Landmarks that vary by fewer pixels over all pictures were not detected in each picture.
_MIN_MOVEMENT = 1.0
FIGURES = ("iou", "pointing", "energy", "area", "covered", "covered_p1")
# Means over so many rows have a standard error of about one point.
_MAX_ROWS, _MAX_VALIDATION_ROWS, _BATCH = 2_000, 500, 250
_NO_MAP = "the model has neither a mask nor a discriminator"
_EMPTY = dict.fromkeys(("source", "truth", *FIGURES, "true_area", "share", "fixed"))


def marked_regions(run: SavedRun, dataset: Dataset, used: DataConfig, rows: Array) -> Regions:
    """Builds the `regions` part of results.json.

    Without a mask the marked share of a picture is chosen on validation rows.

    Args:
        run: a finished run.
        dataset: the data of the rows.
        used: the options that it was opened with.
        rows: `[N]` int64, evaluated rows; of more than 2,000, evenly spaced ones are taken.
    """
    # Reports read this module's constants without TensorFlow.
    from tf_mtl_privacy.training.region_maps import region_maps, region_source

    source = None if run.single_task else region_source(run.bundle)
    if source is None:
        return _nothing(_NO_MAP)
    maps, rows = region_maps(run.bundle), _spread(rows, _MAX_ROWS)
    truth = known_regions(run, dataset, used)
    if isinstance(truth, str):
        return _nothing(truth, source=source, area=_area(maps, dataset, rows))
    named, regions = truth
    held_out = _known(_spread(dataset.rows["validation"], _MAX_VALIDATION_ROWS), regions)
    rows = _known(rows, regions)
    if not len(rows):
        return _nothing("no evaluated picture shows a sensitive region", source=source)
    share, fixed = None, None
    if len(held_out):
        # One guess for every picture, the score of a map that ignores the picture.
        true = regions(held_out)
        prior = true.mean(0, dtype=np.float32)
        whole = np.broadcast_to(prior, true.shape)
        fixed = _fixed(prior, best_share(whole, true), regions, rows)
        if source == "discriminator":
            share = best_share(_heat(maps, dataset, held_out), true)
    scores = _scores(maps, dataset, regions, rows, share)
    missing = _missing(source, share)
    result = {
        **_EMPTY,
        "source": source,
        "truth": named,
        "true_area": _true_area(regions, rows),
        "share": share,
        "fixed": fixed,
        "n": len(rows),
        **scores,
        **({"reason": missing} if missing else {}),
    }
    return cast(Regions, result)


def known_regions(
    run: SavedRun, dataset: Dataset, used: DataConfig
) -> tuple[str, Callable[[Array], Array]] | str:
    """Returns the true regions of a run's private label, or why they are unknown."""
    if dataset.private_classes != run.private_classes:
        return "the run was trained on another private label"
    return true_regions(
        used.effective_private_label,
        used.dataset,
        dataset.store.regions if dataset.store.has_regions else None,
        dataset.landmarks,
        dataset.image_size,
    )


def image_scores(maps: Array, true: Array, marked: Array | None = None) -> dict[str, Array]:
    """Scores each picture: name -> `[N]` float64 in [0, 1].

    Args:
        maps: `[N, S, S]` float, at least 0.
        true: `[N, S, S]` bool, the true region; nowhere empty.
        marked: `[N, S, S]` bool, the marked pixels; None where nothing is marked.

    Returns:
        `pointing`: 1 if the maximum lies in the true region; for several maximal pixels, the share
        of them that do. `energy`: share of the map's sum in the region; a map of zeros counts as
        constant. With `marked` also `iou`, intersection over union, `area`, the marked share of the
        picture, and `covered`, the marked share of the true region.

    Raises:
        ValueError: shapes differ, or a true region is empty.
    """
    shapes = {part.shape for part in (maps, true, marked) if part is not None}
    if len(shapes) != 1 or not true.any(axis=(1, 2)).all():
        raise ValueError(f"expected one shape and no empty region, got {sorted(shapes)}")
    values, inside = _flat(maps).astype(np.float64), _flat(true).astype(bool)
    values = np.where(values.sum(1, keepdims=True) > 0, values, 1.0)
    top = values == values.max(1, keepdims=True)
    scores = {
        "pointing": (top & inside).sum(1) / top.sum(1),
        "energy": np.where(inside, values, 0.0).sum(1) / values.sum(1),
    }
    if marked is not None:
        chosen = _flat(marked).astype(bool)
        both = (chosen & inside).sum(1)
        scores |= {
            "iou": both / (chosen | inside).sum(1),
            "area": chosen.mean(1),
            "covered": both / inside.sum(1),
        }
    return scores


def region_scores(maps: Array, true: Array, marked: Array | None = None) -> dict[str, float]:
    """Returns means of `image_scores`, and `covered_p1`, the first percentile of `covered`."""
    return mean_scores([image_scores(maps, true, marked)])


def mean_scores(parts: list[dict[str, Array]]) -> dict[str, float]:
    """Returns `region_scores` of all pictures of several `image_scores`."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    means = {name: float(values.mean()) for name, values in columns.items()}
    if "covered" in columns:
        means["covered_p1"] = float(np.percentile(columns["covered"], 1))
    return means


def top_share(maps: Array, share: float) -> Array:
    """Marks the highest pixels of each picture, `[N, S, S]` bool.

    Args:
        maps: `[N, S, S]`.
        share: share of the picture, in (0, 1]; at least one pixel. Ties with the last one are
            marked too.
    """
    values = _flat(maps)
    pixels = max(1, round(share * values.shape[1]))
    last = np.partition(values, -pixels, axis=1)[:, -pixels]
    return maps >= last[:, np.newaxis, np.newaxis]


def best_share(maps: Array, true: Array) -> float:
    """Chooses the share of `SHARES` with the highest mean IoU of `top_share`, on validation rows.

    For the arguments see `image_scores`.
    """
    ious = [image_scores(maps, true, top_share(maps, share))["iou"].mean() for share in SHARES]
    return SHARES[int(np.argmax(ious))]


def eye_discs(landmarks: Array, size: int) -> Array:
    """Draws discs around both eyes, `[N, S, S]` bool; the radius is `EYE_RADIUS` of their distance.

    Args:
        landmarks: `[N, >= 4]` pixels, x and y of the left and of the right eye first.
        size: S.
    """
    eyes = np.asarray(landmarks, np.float64)[:, :4].reshape(-1, 2, 2)
    radius = EYE_RADIUS * np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1)
    y, x = np.mgrid[:size, :size]
    discs = np.zeros((len(eyes), size, size), bool)
    for eye in (0, 1):
        left, top = (eyes[:, eye, axis, np.newaxis, np.newaxis] for axis in (0, 1))
        discs |= (x - left) ** 2 + (y - top) ** 2 <= radius[:, np.newaxis, np.newaxis] ** 2
    return discs


def true_regions(
    private_label: str,
    dataset_name: str,
    regions: Callable[[Array], Array] | None,
    landmarks: Array | None,
    size: int,
) -> tuple[str, Callable[[Array], Array]] | str:
    """Returns the true regions, or the reason why they are unknown.

    Regions of the data set are the truth. Discs around the eyes are a reference, only for private
    labels that are visible at the eyes (`EYE_ATTRIBUTES`): for other labels the region is unknown,
    and a mask in the right place would score badly. Landmarks that are the same in every picture
    were not detected in the pictures and do not count.

    Args:
        private_label: see `DataConfig.effective_private_label`.
        dataset_name: name of the data set.
        regions: reads true regions of rows; None where the data set has none.
        landmarks: `[N, 10]` pixels of all rows, or None.
        size: S.

    Returns:
        `DATA_REGIONS` or `EYE_DISCS`, and a function from rows to `[n, S, S]` bool.
    """
    if regions is not None:
        if dataset_name == "synthetic_faces" and private_label != "iris":
            return f"the known regions of these faces are irises, not those of {private_label}"
        return DATA_REGIONS, regions
    if landmarks is not None:
        names = private_label.removeprefix("attributes:").split(",")
        elsewhere = [name for name in names if name not in EYE_ATTRIBUTES]
        if elsewhere:
            return (
                f"{dataset_name} has landmarks of the eyes, and nothing says where "
                f"{', '.join(elsewhere)} is read"
            )
        points = landmarks
        if len(points) > 1 and np.ptp(points[:, :4], axis=0).max() < _MIN_MOVEMENT:
            return (
                f"the landmarks of {dataset_name} are the same in every picture, so they do not "
                "say where the eyes are"
            )
        return EYE_DISCS, lambda rows: eye_discs(points[rows], size)
    return f"{dataset_name} does not say where the sensitive region is"


def _nothing(reason: str, **known: Any) -> Regions:
    return cast(Regions, {**_EMPTY, "n": 0, **known, "reason": reason})


def _missing(source: str, share: float | None) -> str:
    """Returns the reason for missing figures; empty if none are missing."""
    if source == "mask":
        return ""
    nothing = "nothing is covered: the run has no mask"
    return nothing if share is not None else f"{nothing}; no validation rows to choose an area by"


def _scores(
    maps: MakeMaps, dataset: Dataset, regions: Any, rows: Array, share: float | None
) -> dict[str, float]:
    parts = []
    for part in _batches(rows):
        heat, covered = maps(dataset.store.images(part))
        marked = top_share(heat, share) if covered is None and share is not None else covered
        parts.append(image_scores(heat, regions(part), marked))
    means = mean_scores(parts)
    if share is not None:
        # The discriminator marks pixels but covers none.
        del means["covered"], means["covered_p1"]
    return means


def _fixed(prior: Array, share: float, regions: Any, rows: Array) -> dict[str, float]:
    parts = []
    for part in _batches(rows):
        maps = np.broadcast_to(prior, (len(part), *prior.shape))
        parts.append(image_scores(maps, regions(part), top_share(maps, share)))
    means = mean_scores(parts)
    return {name: means[name] for name in ("iou", "pointing", "energy", "area")}


def _heat(maps: MakeMaps, dataset: Dataset, rows: Array) -> Array:
    return np.concatenate([maps(dataset.store.images(part)).heat for part in _batches(rows)])


def _area(maps: MakeMaps, dataset: Dataset, rows: Array) -> float | None:
    """Returns the covered share of the pictures; None without a mask."""
    parts = [maps(dataset.store.images(part)).covered for part in _batches(rows)]
    shares = [part.mean((1, 2)) for part in parts if part is not None]
    return float(np.concatenate(shares).mean()) if shares else None


def _true_area(regions: Any, rows: Array) -> float:
    return float(np.concatenate([regions(part).mean((1, 2)) for part in _batches(rows)]).mean())


def _known(rows: Array, regions: Any) -> Array:
    """Returns the rows whose picture shows a sensitive region."""
    shown = [regions(part).any(axis=(1, 2)) for part in _batches(rows)]
    return rows[np.concatenate(shown)] if shown else rows


def _spread(rows: Array, max_rows: int) -> Array:
    return rows[:: max(1, -(-len(rows) // max_rows))]


def _batches(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


def _flat(maps: Array) -> Array:
    return maps.reshape(len(maps), -1)
