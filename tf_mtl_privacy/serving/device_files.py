"""Writes files for devices beside an export, with their accuracy next to the original's."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tf_mtl_privacy.data.fingerprints import unknown_key
from tf_mtl_privacy.data.store import cache_folder
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_atomic, write_json
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving.device import Array, Reader, compared, require_device
from tf_mtl_privacy.serving.device_onnx import onnx_file, onnx_reader, require_onnx
from tf_mtl_privacy.serving.device_tflite import tflite_file, tflite_reader
from tf_mtl_privacy.serving.signatures import networks_of
from tf_mtl_privacy.training.predict_images import predict_images
from tf_mtl_privacy.training.saved_run import SavedRun

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset

FOLDER = "device"
# Rows that set the ranges of an int8 file, and rows on which both models are compared.
CALIBRATION_ROWS, COMPARED_ROWS = 200, 1_000
_BATCH = 50
NOT_ATTACKED = (
    "No fresh attacker was sent against this file: what was measured of the run's features, mask "
    "and memberships is of the original. Only attributes leave it."
)


@dataclasses.dataclass(frozen=True)
class Device:
    """One kind of file for devices.

    Attributes:
        flag: what asks for it.
        file: its name.
        input_dtype: of the pixels it takes.
        calibrated: whether it takes ranges from pictures.
        convert: (run, pictures for the ranges) -> the file's content.
        reader: its content -> what answers by it.
        require: raises where what it needs is not installed.
    """

    flag: str
    file: str
    input_dtype: str
    calibrated: bool
    convert: Callable[[SavedRun, Array], bytes]
    reader: Callable[[bytes], Reader]
    require: Callable[[], None] = lambda: None


DEVICES = {
    "float16": Device(
        "--tflite=float16",
        "float16.tflite",
        "float32",
        False,
        functools.partial(tflite_file, kind="float16"),
        tflite_reader,
    ),
    "int8": Device(
        "--tflite=int8",
        "int8.tflite",
        "uint8",
        True,
        functools.partial(tflite_file, kind="int8"),
        tflite_reader,
    ),
    "onnx": Device(
        "--onnx",
        "attributes.onnx",
        "float32",
        False,
        lambda run, calibration: onnx_file(run),
        onnx_reader,
        require_onnx,
    ),
}


def check_run(run: SavedRun, kind: str) -> None:
    """Checks, before its data is opened, that a run can become such a file here.

    Raises:
        UsageError: the run has noise on its features.
        RunError: a package that makes the file is not installed.
    """
    require_device(run, DEVICES[kind].flag)
    DEVICES[kind].require()


def check_device(run: SavedRun, dataset: Dataset, kind: str) -> None:
    """Checks, before anything is written, that `write_device` has what it needs.

    Raises:
        UsageError: the data has other rows than the run was trained with, or no rows to take
            ranges from or to test on.
    """
    flag = DEVICES[kind].flag
    cache = cache_folder(run.config.data.cache_dir)
    same = dataset.matches(run.data_fingerprint, cache)
    if same is None:
        raise UsageError(
            f"{flag}: cannot tell if the data of {run.run_dir} is what it was trained on, as "
            + unknown_key(run.data_fingerprint, cache)
        )
    if run.data_fingerprint and not same:
        raise UsageError(
            f"{flag}: the data of {run.run_dir} has changed since it was trained; its "
            "validation and test rows are needed"
        )
    for split in ("validation", "test"):
        if not len(dataset.rows[split]):
            raise UsageError(f"{flag}: the run's data has no {split} rows")


class Made(NamedTuple):
    """A file that is not written yet, and what its `.json` will say but for the version."""

    kind: str
    content: bytes
    report: dict[str, Any]


def make_device(run: SavedRun, dataset: Dataset, kind: str) -> Made:
    """Converts a run and compares both; nothing is written.

    Args:
        run: what is exported.
        dataset: its data.
        kind: one of `DEVICES`.

    Raises:
        RunError: the converter refuses the networks.
    """
    device = DEVICES[kind]
    ranges = CALIBRATION_ROWS if device.calibrated else 1
    calibration = _spread(dataset.rows["validation"], ranges)
    rows = _spread(dataset.rows["test"], COMPARED_ROWS)
    content = device.convert(run, dataset.store.images(calibration))
    found, original = _both(run, device.reader(content), dataset, rows)
    labels = dataset.labels_of(rows).business
    report = {
        "schema_version": 1,
        "kind": kind,
        "bytes": len(content),
        "input_dtype": device.input_dtype,
        "split": "test",
        "rows": len(rows),
        "calibration_rows": len(calibration) if device.calibrated else 0,
        "tasks": compared(found, original, labels, run.task_classes),
        "privacy": NOT_ATTACKED,
    }
    return Made(kind, content, report)


def write_device(made: Made, folder: Path, version: int) -> tuple[Path, dict[str, Any]]:
    """Writes `device/<version>/<file>` and a `.json` of the same stem into a model's folder.

    Args:
        made: the file.
        folder: the model's.
        version: the exported version's number.

    Returns:
        The file, and what is in the `.json`: `schema_version`, `kind`, `version`, `bytes`,
        `input_dtype`, `split`, `rows`, `calibration_rows`, `tasks` (see `compared`) and `privacy`.
    """
    path = private_dir(folder / FOLDER / str(version)) / DEVICES[made.kind].file
    report = {**made.report, "version": version}
    write_atomic(path, made.content)
    write_json(path.with_suffix(".json"), report)
    return path, report


def _both(
    run: SavedRun, read: Reader, dataset: Dataset, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Probabilities of all rows: of the file by output, of the run by task."""
    parts = []
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
