"""Device files: an export's TensorFlow Lite and ONNX files, with their measured accuracy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tf_mtl_privacy.data.fingerprints import unknown_key
from tf_mtl_privacy.data.store import cache_folder
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.export.conversion import (
    Array,
    Reader,
    onnx_file,
    onnx_reader,
    require_convertible,
    require_onnx,
    tflite_file,
    tflite_reader,
)
from tf_mtl_privacy.export.signatures import networks_of
from tf_mtl_privacy.files import private_dir, write_atomic, write_json
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving_signature import probabilities_key
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.saved_run import SavedRun

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset

FOLDER = "device"
# Most validation rows that set the ranges of an int8 file, and most test rows for the accuracy.
MAX_CALIBRATION_ROWS, MAX_TEST_ROWS = 200, 1_000
_BATCH = 50
NOT_ATTACKED = (
    "No attack was run against this file. Measured leakage from features, mask and membership "
    "inference is that of the original run. The file outputs attributes only."
)


@dataclasses.dataclass(frozen=True)
class DeviceFormat:
    """A format of device files.

    Attributes:
        flag: flag that requests it.
        file: name of the file.
        input_dtype: dtype of its input pixels.
        calibrated: True if it needs calibration pictures.
        convert: (run, calibration pictures) -> content of the file.
        reader: content -> function that predicts with it.
        require: raises if a needed package is not installed.
    """

    flag: str
    file: str
    input_dtype: str
    calibrated: bool
    convert: Callable[[SavedRun, Array], bytes]
    reader: Callable[[bytes], Reader]
    require: Callable[[], None] = lambda: None


DEVICE_FORMATS = {
    "float16": DeviceFormat(
        "--tflite=float16",
        "float16.tflite",
        "float32",
        False,
        functools.partial(tflite_file, kind="float16"),
        tflite_reader,
    ),
    "int8": DeviceFormat(
        "--tflite=int8",
        "int8.tflite",
        "uint8",
        True,
        functools.partial(tflite_file, kind="int8"),
        tflite_reader,
    ),
    "onnx": DeviceFormat(
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
    """Checks, before the data set is opened, that a run can be converted.

    Raises:
        UsageError: the run has noise on its features.
        RunError: a package for the conversion is not installed.
    """
    require_convertible(run, DEVICE_FORMATS[kind].flag)
    DEVICE_FORMATS[kind].require()


def check_dataset(run: SavedRun, dataset: Dataset, kind: str) -> None:
    """Checks, before anything is written, that the data set suits the run.

    Raises:
        UsageError: the data set is not the run's, or lacks validation or test rows.
    """
    flag = DEVICE_FORMATS[kind].flag
    cache = cache_folder(run.config.data.cache_dir)
    same = dataset.matches(run.data_fingerprint, cache)
    if same is None:
        raise UsageError(
            f"{flag}: cannot tell if the data of {run.run_dir} is what it was trained on, as "
            + unknown_key(run.data_fingerprint, cache)
        )
    if run.data_fingerprint and not same:
        raise UsageError(
            f"{flag}: the data of {run.run_dir} has changed since training; restore its original "
            "validation and test rows"
        )
    for split in ("validation", "test"):
        if not len(dataset.rows[split]):
            raise UsageError(f"{flag}: the run's data has no {split} rows; omit the flag")


class ConvertedRun(NamedTuple):
    """A file that is not yet written, and the content of its `.json` without the version."""

    kind: str
    content: bytes
    report: dict[str, Any]


def convert_run(run: SavedRun, dataset: Dataset, kind: str) -> ConvertedRun:
    """Converts a run and measures the accuracy of both on test rows; writes nothing.

    Args:
        run: a finished run.
        dataset: its data set.
        kind: a key of `DEVICE_FORMATS`.

    Raises:
        RunError: the conversion fails.
    """
    device_format = DEVICE_FORMATS[kind]
    ranges = MAX_CALIBRATION_ROWS if device_format.calibrated else 1
    calibration = _spread(dataset.rows["validation"], ranges)
    rows = _spread(dataset.rows["test"], MAX_TEST_ROWS)
    content = device_format.convert(run, dataset.store.images(calibration))
    converted, original = _predictions(run, device_format.reader(content), dataset, rows)
    labels = dataset.labels_of(rows).business
    report = {
        "schema_version": 1,
        "kind": kind,
        "bytes": len(content),
        "input_dtype": device_format.input_dtype,
        "split": "test",
        "rows": len(rows),
        "calibration_rows": len(calibration) if device_format.calibrated else 0,
        "tasks": compare_predictions(converted, original, labels, run.task_classes),
        "privacy": NOT_ATTACKED,
    }
    return ConvertedRun(kind, content, report)


def write_device_file(
    converted: ConvertedRun, folder: Path, version: int
) -> tuple[Path, dict[str, Any]]:
    """Writes `device/<version>/<file>` and a `.json` of the same stem to a model's folder.

    Args:
        converted: the file.
        folder: the model's folder.
        version: number of the exported version.

    Returns:
        The path of the file, and the content of the `.json`: `schema_version`, `kind`, `version`,
        `bytes`, `input_dtype`, `split`, `rows`, `calibration_rows`, `tasks` (see
        `compare_predictions`) and `privacy`.
    """
    path = private_dir(folder / FOLDER / str(version)) / DEVICE_FORMATS[converted.kind].file
    report = {**converted.report, "version": version}
    write_atomic(path, converted.content)
    write_json(path.with_suffix(".json"), report)
    return path, report


def compare_predictions(
    converted: Mapping[str, Array],
    original: Mapping[str, Array],
    labels: Mapping[str, Array],
    classes: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Compares a converted file with its run.

    Args:
        converted: output -> probabilities `[N, classes]` of the converted file.
        original: task -> probabilities `[N, classes]` of the run.
        labels: task -> `[N]` int; -1 is unknown.
        classes: task -> class names.

    Returns:
        Task -> `device` and `original`, the `utility` of each, and `agreement`, the fraction of
        rows with the same prediction.
    """
    result = {}
    for task, names in classes.items():
        device, run = converted[probabilities_key(task)], original[task]
        result[task] = {
            "device": utility(device, labels[task], names),
            "original": utility(run, labels[task], names),
            "agreement": float(np.mean(device.argmax(1) == run.argmax(1))),
        }
    return result


def _predictions(
    run: SavedRun, read: Reader, dataset: Dataset, rows: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Probabilities of all rows: the file's by output, the run's by task."""
    parts = []
    with Progress(len(rows), "measuring accuracy", "pictures") as progress:
        for start in range(0, len(rows), _BATCH):
            images = dataset.store.images(rows[start : start + _BATCH])
            original: dict[str, Array] = {}
            for bundle in networks_of(run).values():
                original |= predict_images(bundle, images).probabilities
            parts.append((read(images), original))
            progress.update(len(images))
    return _joined([part for part, _ in parts]), _joined([part for _, part in parts])


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _spread(rows: Array, max_rows: int) -> Array:
    """Returns at most `max_rows` rows, evenly spaced."""
    return rows[:: -(-len(rows) // max_rows)]
