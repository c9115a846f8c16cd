"""The attributes of a prepared picture as a TensorFlow Lite file, for devices.

Only the encoder and the business heads are in it: features never leave the device. Decoding and
cropping are left to the device; `data/preprocess.py` says what is expected.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.models.noise import has_noise
from tf_mtl_privacy.serving.contract import probabilities_key
from tf_mtl_privacy.serving.signatures import networks_of
from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
INPUT = "image"
KINDS = ("float16", "int8")
# Rows that set the ranges of an int8 file, and rows on which both models are compared.
CALIBRATION_ROWS, COMPARED_ROWS = 200, 1_000


def require_device(run: SavedRun, kind: str) -> None:
    """Checks that a run can become such a file.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if has_noise(run.bundle.encoder):
        raise UsageError(
            f"--tflite={kind}: the run's features carry noise (--feature_noise="
            f"{run.config.removal.feature_noise}), which TensorFlow Lite cannot draw; leave the "
            "flag out"
        )


def device_file(run: SavedRun, kind: str, calibration: Array) -> bytes:
    """Converts a run's attributes for devices.

    The file's one signature takes `image` `[1, S, S, 3]`, prepared: float32 in [0, 1] for
    'float16', uint8 in [0, 255] for 'int8', and returns `<task>_probabilities` `[1, classes]`
    float32.

    Args:
        run: a finished run.
        kind: 'float16' (weights of 16 bits, computed in float32) or 'int8' (weights and all that
            is computed of 8 bits).
        calibration: `[N, S, S, 3]` uint8, prepared pictures from which 'int8' takes its ranges.

    Raises:
        UsageError: see `require_device`.
        RunError: the converter refuses the networks.
    """
    require_device(run, kind)
    module, function = _traced(run)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: _calibrating(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    try:
        with _quiet():
            return bytes(converter.convert())
    except Exception as error:
        # The converter raises whatever its passes do; all of it means the same to a user.
        line = str(error).strip().split("\n", 1)[0]
        raise RunError(f"TensorFlow Lite cannot convert the run to {kind}: {line}") from error


def device_reader(content: bytes) -> Callable[[Array], dict[str, Array]]:
    """A converted file -> prepared pictures `[N, S, S, 3]` uint8 -> its outputs, `[N, classes]`."""
    with warnings.catch_warnings(), _quiet():
        # It moves to a package of its own, which reads the same files.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    whole = runner.get_input_details()[INPUT]["dtype"] == np.uint8

    def read(images: Array) -> dict[str, Array]:
        inputs = images if whole else images.astype(np.float32) / np.float32(255.0)
        rows = [runner(**{INPUT: row[np.newaxis]}) for row in inputs]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return read


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


def _traced(run: SavedRun) -> tuple[tf.Module, Any]:
    bundles, size = networks_of(run), run.config.data.image_size

    @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32, name=INPUT)])
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
    return module, read.get_concrete_function()


def _calibrating(images: Array) -> Iterator[list[Array]]:
    for image in images:
        yield [image[np.newaxis].astype(np.float32) / np.float32(255.0)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps off the terminal what the converter writes to the file descriptor itself."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
