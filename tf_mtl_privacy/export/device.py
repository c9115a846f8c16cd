"""The attributes of a prepared picture as a file of their own, for devices and other runtimes.

Only the encoder and the business heads are in it: features never leave the device. Decoding and
cropping are left to the device; `data/preprocess.py` says what is expected.

ONNX files, by tf2onnx and for ONNX Runtime among others.

TensorFlow Lite files, with weights of 16 bits or everything of 8.

Writes files for devices beside an export, with their accuracy next to the original's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.fingerprints import unknown_key
from tf_mtl_privacy.data.store import cache_folder
from tf_mtl_privacy.errors import RunError, UsageError, install_command
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.export.signatures import networks_of
from tf_mtl_privacy.files import private_dir, write_atomic, write_json
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.removal.noise import has_noise
from tf_mtl_privacy.serving_signature import probabilities_key
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.saved_run import SavedRun

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset


Array = np.ndarray[Any, Any]
# Prepared pictures `[N, S, S, 3]` uint8 -> outputs of a file, each `[N, classes]`.
Reader = Callable[[Array], dict[str, Array]]
INPUT = "image"


def require_device(run: SavedRun, flag: str) -> None:
    """Checks that a run can become such a file.

    Args:
        run: what is exported.
        flag: what asks for the file; messages begin with it.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if has_noise(run.bundle.encoder):
        raise UsageError(
            f"{flag}: the run's features carry noise (--feature_noise="
            f"{run.config.removal.feature_noise}), which such a file cannot draw; leave the flag "
            "out"
        )


def attributes_of(run: SavedRun, batch: int | None) -> tuple[tf.Module, Any]:
    """A module with the weights, and its function, not traced yet.

    The function takes `image` `[batch, S, S, 3]` float32 in [0, 1], prepared, and returns
    `<task>_probabilities` `[batch, classes]` float32.

    Args:
        run: a finished run.
        batch: pictures of a call; None for any number.
    """
    bundles, size = networks_of(run), run.config.data.image_size

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec((batch, size, size, 3), tf.float32, name=INPUT)],
    )
    def read(image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {}
        for bundle in bundles.values():
            features = bundle.encoder(image, training=False)
            for task, logits in bundle.business(features, training=False).items():
                found[probabilities_key(task)] = tf.nn.softmax(logits)
        return found

    module = tf.Module()
    models = [m for bundle in bundles.values() for m in (bundle.encoder, bundle.business)]
    module.weights = [weight.value for model in models for weight in model.variables]
    return module, read


def in_unit_range(images: Array) -> Array:
    """Pixels uint8 -> float32 in [0, 1], as `attributes_of` expects them."""
    return images.astype(np.float32) / np.float32(255.0)


def compared(
    found: Mapping[str, Array],
    original: Mapping[str, Array],
    labels: Mapping[str, Array],
    classes: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Task -> `device` and `original` (`utility` of each) and `agreement`, a share of the rows.

    Args:
        found: output -> probabilities `[N, classes]` of the converted file.
        original: task -> probabilities of the run itself.
        labels: task -> `[N]` int, -1 where unknown.
        classes: task -> class names.
    """
    result = {}
    for task, names in classes.items():
        here, there = found[probabilities_key(task)], original[task]
        result[task] = {
            "device": utility(here, labels[task], names),
            "original": utility(there, labels[task], names),
            "agreement": float(np.mean(here.argmax(1) == there.argmax(1))),
        }
    return result


def first_line(error: Exception) -> str:
    """What a converter says first, for a message of one line."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps off the terminal what a converter writes to the file descriptor itself."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


# Of 2022: runtimes that are in use read it, and tf2onnx writes all that the networks need.
OPSET = 17
_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


def require_onnx() -> None:
    """Checks that the converter and the runtime are installed.

    Raises:
        RunError: one is not; the message says how to get it.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise RunError(f"--onnx needs the package {package}: {install_command('onnx')}")


def onnx_file(run: SavedRun) -> bytes:
    """Converts a run's attributes: `image` `[B, S, S, 3]` float32 in [0, 1], prepared ->
    `<task>_probabilities` `[B, classes]` float32.

    Args:
        run: a finished run for which `require_device` passes.

    Raises:
        RunError: the converter refuses the networks, or is not installed.
    """
    require_onnx()
    module, read = attributes_of(run, batch=None)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        import tf2onnx

        proto, _ = tf2onnx.convert.from_function(
            read, input_signature=read.input_signature, opset=OPSET
        )
    except Exception as error:
        # As with TensorFlow Lite: whatever its passes raise means the same to a user.
        raise RunError(f"tf2onnx cannot convert the run: {first_line(error)}") from error
    del module  # holds the weights until they are in the file
    return bytes(proto.SerializeToString())


def onnx_reader(content: bytes) -> Reader:
    """Answers by what `onnx_file` has made, in ONNX Runtime on the CPU.

    Raises:
        RunError: the runtime is not installed.
    """
    require_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def read(images: Array) -> dict[str, Array]:
        answers = session.run(names, {INPUT: in_unit_range(images)})
        return dict(zip(names, answers, strict=True))

    return read


def tflite_file(run: SavedRun, calibration: Array, *, kind: str) -> bytes:
    """Converts a run's attributes for devices.

    The file's one signature takes `image` `[1, S, S, 3]`, prepared: float32 in [0, 1] for
    'float16', uint8 in [0, 255] for 'int8', and returns `<task>_probabilities` `[1, classes]`
    float32.

    Args:
        run: a finished run for which `require_device` passes.
        calibration: `[N, S, S, 3]` uint8, prepared pictures from which 'int8' takes its ranges.
        kind: 'float16' (weights of 16 bits, computed in float32) or 'int8' (weights and all that
            is computed of 8 bits).

    Raises:
        RunError: the converter refuses the networks.
    """
    module, read = attributes_of(run, batch=1)
    functions = [read.get_concrete_function()]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: _calibrating(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    try:
        with quiet():
            return bytes(converter.convert())
    except Exception as error:
        # The converter raises whatever its passes do; all of it means the same to a user.
        raise RunError(
            f"TensorFlow Lite cannot convert the run to {kind}: {first_line(error)}"
        ) from error


def tflite_reader(content: bytes) -> Reader:
    """Answers by what `tflite_file` has made."""
    with warnings.catch_warnings(), quiet():
        # It moves to a package of its own, which reads the same files.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    whole = runner.get_input_details()[INPUT]["dtype"] == np.uint8

    def read(images: Array) -> dict[str, Array]:
        rows = [
            runner(**{INPUT: row[np.newaxis]})
            for row in (images if whole else in_unit_range(images))
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return read


def _calibrating(images: Array) -> Iterator[list[Array]]:
    for image in images:
        yield [in_unit_range(image[np.newaxis])]


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
