"""Writes a TensorFlow Lite file beside an export, with its accuracy next to the original's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_atomic, write_json
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving.device import (
    CALIBRATION_ROWS,
    COMPARED_ROWS,
    compared,
    device_file,
    device_reader,
    require_device,
)
from tf_mtl_privacy.serving.signatures import networks_of
from tf_mtl_privacy.training.predict_images import predict_images
from tf_mtl_privacy.training.saved_run import SavedRun

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset

FOLDER = "device"
_BATCH = 50
NOT_ATTACKED = (
    "No fresh attacker was sent against this file: what was measured of the run's features, mask "
    "and memberships is of the original. Only attributes leave it."
)


def check_device(run: SavedRun, dataset: Dataset, kind: str) -> None:
    """Checks, before anything is written, that `write_device` has what it needs.

    Raises:
        UsageError: the run has noise on its features, or the data other rows than it was trained
            with, or no rows to take ranges from or to test on.
    """
    require_device(run, kind)
    if dataset.fingerprint != run.data_fingerprint:
        raise UsageError(
            f"--tflite={kind}: the data of {run.run_dir} has changed since it was trained; its "
            "validation and test rows are needed"
        )
    for split in ("validation", "test"):
        if not len(dataset.rows[split]):
            raise UsageError(f"--tflite={kind}: the run's data has no {split} rows")


def write_device(
    run: SavedRun, dataset: Dataset, folder: Path, kind: str, version: int
) -> tuple[Path, dict[str, Any]]:
    """Writes `device/<version>/<kind>.tflite` and a `.json` of the same name into a model's folder.

    Args:
        run: what is exported.
        dataset: its data.
        folder: the model's.
        kind: one of `KINDS`.
        version: the exported version's number.

    Returns:
        The file, and what is in the `.json`: `schema_version`, `kind`, `version`, `bytes`,
        `input_dtype`, `split`, `rows`, `calibration_rows`, `tasks` (see `compared`) and `privacy`.
    """
    calibration = _spread(dataset.rows["validation"], CALIBRATION_ROWS)
    rows = _spread(dataset.rows["test"], COMPARED_ROWS)
    content = device_file(run, kind, dataset.store.images(calibration))
    found, original = _both(run, content, dataset, rows)
    labels = dataset.labels_of(rows).business
    report = {
        "schema_version": 1,
        "kind": kind,
        "version": version,
        "bytes": len(content),
        "input_dtype": "uint8" if kind == "int8" else "float32",
        "split": "test",
        "rows": len(rows),
        "calibration_rows": len(calibration) if kind == "int8" else 0,
        "tasks": compared(found, original, labels, run.task_classes),
        "privacy": NOT_ATTACKED,
    }
    path = private_dir(folder / FOLDER / str(version)) / f"{kind}.tflite"
    write_atomic(path, content)
    write_json(path.with_suffix(".json"), report)
    return path, report


def _both(
    run: SavedRun, content: bytes, dataset: Dataset, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Probabilities of all rows: of the file by output, of the run by task."""
    read, parts = device_reader(content), []
    with Progress(len(rows), "comparing", "pictures") as progress:
        for start in range(0, len(rows), _BATCH):
            images = dataset.store.images(rows[start : start + _BATCH])
            own: dict[str, np.ndarray] = {}
            for bundle in networks_of(run).values():
                own |= predict_images(bundle, images).probabilities
            parts.append((read(images), own))
            progress.update(len(images))
    return _joined([found for found, _ in parts]), _joined([own for _, own in parts])


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, evenly spaced."""
    return rows[:: -(-len(rows) // most)]
