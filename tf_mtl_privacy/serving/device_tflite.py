"""TensorFlow Lite files, with weights of 16 bits or everything of 8."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.serving.device import (
    INPUT,
    Array,
    Reader,
    attributes_of,
    first_line,
    in_unit_range,
    quiet,
)
from tf_mtl_privacy.training.saved_run import SavedRun


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
