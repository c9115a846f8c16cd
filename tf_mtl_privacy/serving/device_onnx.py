"""ONNX files, by tf2onnx and for ONNX Runtime among others."""

from __future__ import annotations

import importlib.util
import logging

from tf_mtl_privacy.errors import RunError, install_command
from tf_mtl_privacy.serving.device import (
    INPUT,
    Array,
    Reader,
    attributes_of,
    first_line,
    in_unit_range,
)
from tf_mtl_privacy.training.saved_run import SavedRun

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
