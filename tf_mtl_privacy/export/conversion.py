"""Conversion of a run's attribute prediction to TensorFlow Lite and ONNX.

A converted file contains the encoder and the business heads. Features never leave the device, which
decodes and crops the pictures itself, as `data/preprocess.py` does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import RunError, UsageError, install_command
from tf_mtl_privacy.export.signatures import networks_of
from tf_mtl_privacy.removal import draws_at_random
from tf_mtl_privacy.serving_signature import probabilities_key
from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
# Prepared pictures `[N, S, S, 3]` uint8 -> output name -> `[N, classes]` float32.
Reader = Callable[[Array], dict[str, Array]]
INPUT = "image"
# Published in 2022: common runtimes support it, and it has every operation of the networks.
OPSET = 17
_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


def tflite_file(run: SavedRun, calibration: Array, *, kind: str) -> bytes:
    """Converts a run's attribute prediction to TensorFlow Lite.

    The model's only signature takes a prepared picture `image` `[1, S, S, 3]` (float32 in [0, 1]
    for 'float16', uint8 for 'int8') and returns `<task>_probabilities` `[1, classes]` float32.

    Args:
        run: a finished run for which `require_convertible` passes.
        calibration: prepared pictures `[N, S, S, 3]` uint8, which set the ranges of 'int8'.
        kind: 'float16' (16-bit weights, float32 computation) or 'int8' (8-bit weights and
            computation).

    Raises:
        RunError: the conversion fails.
    """
    module, predict = attribute_function(run, batch=1)
    functions = [predict.get_concrete_function()]
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
        # Any error of the converter's passes means that the conversion failed.
        raise RunError(
            f"TensorFlow Lite cannot convert the run to {kind}: {first_line(error)}"
        ) from error


def tflite_reader(content: bytes) -> Reader:
    """Loads the result of `tflite_file` in TensorFlow Lite's interpreter."""
    with warnings.catch_warnings(), quiet():
        # It warns that it will move to another package, which reads the same files.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    takes_uint8 = runner.get_input_details()[INPUT]["dtype"] == np.uint8

    def read(images: Array) -> dict[str, Array]:
        rows = [
            runner(**{INPUT: row[np.newaxis]})
            for row in (images if takes_uint8 else in_unit_range(images))
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return read


def _calibrating(images: Array) -> Iterator[list[Array]]:
    for image in images:
        yield [in_unit_range(image[np.newaxis])]


def require_onnx() -> None:
    """Checks that the ONNX converter and runtime are installed.

    Raises:
        RunError: one is not; the message contains the command that installs it.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise RunError(f"--onnx needs the package {package}: {install_command('onnx')}")


def onnx_file(run: SavedRun) -> bytes:
    """Converts a run's attribute prediction to ONNX, with tf2onnx.

    The model takes prepared pictures `image` `[B, S, S, 3]` float32 in [0, 1] and returns
    `<task>_probabilities` `[B, classes]` float32.

    Args:
        run: a finished run for which `require_convertible` passes.

    Raises:
        RunError: the conversion fails, or the converter is not installed.
    """
    require_onnx()
    module, predict = attribute_function(run, batch=None)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        import tf2onnx

        proto, _ = tf2onnx.convert.from_function(
            predict, input_signature=predict.input_signature, opset=OPSET
        )
    except Exception as error:
        # As for TensorFlow Lite, any error of its passes means that the conversion failed.
        raise RunError(f"tf2onnx cannot convert the run: {first_line(error)}") from error
    del module  # kept until here, because it owns the weights
    return bytes(proto.SerializeToString())


def onnx_reader(content: bytes) -> Reader:
    """Loads the result of `onnx_file` in ONNX Runtime on the CPU.

    Raises:
        RunError: the runtime is not installed.
    """
    require_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def read(images: Array) -> dict[str, Array]:
        outputs = session.run(names, {INPUT: in_unit_range(images)})
        return dict(zip(names, outputs, strict=True))

    return read


def require_convertible(run: SavedRun, flag: str) -> None:
    """Checks that a run can be converted.

    Args:
        run: a finished run.
        flag: the flag that requests the file, for the message.

    Raises:
        UsageError: the run has noise on its features, which a converted file cannot draw.
    """
    if draws_at_random(run.bundle.encoder):
        noise = run.config.removal.feature_noise
        cause = f" (--feature_noise={noise})" if noise else ""
        raise UsageError(
            f"{flag}: the run's features carry noise{cause}, which such a file cannot draw; omit "
            "the flag"
        )


def attribute_function(run: SavedRun, batch: int | None) -> tuple[tf.Module, Any]:
    """Returns a module with the weights, and its function, not yet traced.

    The function takes prepared pictures `image` `[batch, S, S, 3]` float32 in [0, 1] and returns
    `<task>_probabilities` `[batch, classes]` float32.

    Args:
        run: a finished run.
        batch: pictures in a call; None for any number.
    """
    bundles, size = networks_of(run), run.config.data.image_size

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec((batch, size, size, 3), tf.float32, name=INPUT)],
    )
    def predict(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = {}
        for bundle in bundles.values():
            features = bundle.encoder(image, training=False)
            for task, logits in bundle.business(features, training=False).items():
                probabilities[probabilities_key(task)] = tf.nn.softmax(logits)
        return probabilities

    module = tf.Module()
    models = [m for bundle in bundles.values() for m in (bundle.encoder, bundle.business)]
    module.weights = [weight.value for model in models for weight in model.variables]
    return module, predict


def in_unit_range(images: Array) -> Array:
    """Scales uint8 pixels to float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255.0)


def first_line(error: Exception) -> str:
    """Returns the first line of a converter's error message."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides output that a converter writes directly to the file descriptor of stderr."""
    terminal, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(devnull)
