"""Scores what a run marks as sensitive in pictures; docs/results-schema.md explains each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.evaluation.regions import (
    FIGURES,
    best_share,
    image_scores,
    mean_scores,
    top_share,
    true_regions,
)
from tf_mtl_privacy.training.region_maps import MakeMaps, region_maps, region_source

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
# Evenly spaced rows: means of that many are known to about one point.
_MOST_ROWS, _MOST_VALIDATION_ROWS, _BATCH = 2_000, 500, 250
_NO_MAP = "the model has neither a mask nor a discriminator"
_EMPTY = dict.fromkeys(("source", "truth", *FIGURES, "true_area", "share", "fixed"))


def marked_regions(
    run: SavedRun, dataset: Dataset, used: DataConfig, rows: Array
) -> dict[str, Any]:
    """The `regions` part of results.json.

    What has to be chosen, the share of a picture that is marked where the map itself does not
    decide, is chosen on validation rows.

    Args:
        run: a finished run.
        dataset: where the rows are.
        used: the options that it was opened with.
        rows: `[N]` int64, evaluated rows; of more than 2,000 evenly spaced ones are taken.
    """
    source = None if run.single_task else region_source(run.bundle)
    if source is None:
        return _nothing(_NO_MAP)
    maps, rows = region_maps(run.bundle), _spread(rows, _MOST_ROWS)
    truth = known_regions(run, dataset, used)
    if isinstance(truth, str):
        return _nothing(truth, source=source, area=_area(maps, dataset, rows))
    named, regions = truth
    held_out = _known(_spread(dataset.rows["validation"], _MOST_VALIDATION_ROWS), regions)
    rows = _known(rows, regions)
    if not len(rows):
        return _nothing("no evaluated picture shows a sensitive region", source=source)
    share, fixed = None, None
    if len(held_out):
        # One guess for every picture: what a map that looks at nothing would reach.
        true = regions(held_out)
        prior = true.mean(0, dtype=np.float32)
        whole = np.broadcast_to(prior, true.shape)
        fixed = _fixed(prior, best_share(whole, true), regions, rows)
        if source == "discriminator":
            share = best_share(_heat(maps, dataset, held_out), true)
    scores = _scores(maps, dataset, regions, rows, share)
    missing = _missing(source, share)
    return {
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


def known_regions(
    run: SavedRun, dataset: Dataset, used: DataConfig
) -> tuple[str, Callable[[Array], Array]] | str:
    """Name of the true regions and rows -> `[n, S, S]` bool; or why they are not known."""
    if dataset.private_classes != run.private_classes:
        return "the run was trained on another private label"
    return true_regions(
        used.effective_private_label,
        used.dataset,
        dataset.store.regions if dataset.store.has_regions else None,
        dataset.landmarks,
        dataset.image_size,
    )


def _nothing(reason: str, **known: Any) -> dict[str, Any]:
    return {**_EMPTY, "n": 0, **known, "reason": reason}


def _missing(source: str, share: float | None) -> str:
    """Why some of the figures are missing; empty where none are."""
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
    found = mean_scores(parts)
    if share is not None:
        # The discriminator only marks; nothing is covered.
        del found["covered"], found["covered_p1"]
    return found


def _fixed(prior: Array, share: float, regions: Any, rows: Array) -> dict[str, float]:
    parts = []
    for part in _batches(rows):
        maps = np.broadcast_to(prior, (len(part), *prior.shape))
        parts.append(image_scores(maps, regions(part), top_share(maps, share)))
    found = mean_scores(parts)
    return {name: found[name] for name in ("iou", "pointing", "energy", "area")}


def _heat(maps: MakeMaps, dataset: Dataset, rows: Array) -> Array:
    return np.concatenate([maps(dataset.store.images(part)).heat for part in _batches(rows)])


def _area(maps: MakeMaps, dataset: Dataset, rows: Array) -> float | None:
    """Share of the pictures that is covered, None where nothing is."""
    parts = [maps(dataset.store.images(part)).covered for part in _batches(rows)]
    found = [part.mean((1, 2)) for part in parts if part is not None]
    return float(np.concatenate(found).mean()) if found else None


def _true_area(regions: Any, rows: Array) -> float:
    return float(np.concatenate([regions(part).mean((1, 2)) for part in _batches(rows)]).mean())


def _known(rows: Array, regions: Any) -> Array:
    """The rows whose picture shows a sensitive region."""
    shown = [regions(part).any(axis=(1, 2)) for part in _batches(rows)]
    return rows[np.concatenate(shown)] if shown else rows


def _spread(rows: Array, most: int) -> Array:
    return rows[:: max(1, -(-len(rows) // most))]


def _batches(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
