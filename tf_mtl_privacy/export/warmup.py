"""Requests that TensorFlow Serving replays when it loads a model: the first user waits less.

Source: TensorFlow Serving, "SavedModel Warmup": `assets.extra/tf_serving_warmup_requests`, a
TFRecord file of `PredictionLog`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import RunError, install_command
from tf_mtl_privacy.serving_signature import DEFAULT_SIGNATURE, IMAGE_BYTES, IMAGES


def require_stubs() -> None:
    """Checks that the official stubs are there.

    Raises:
        RunError: they are not; the message says how to get them.
    """
    try:
        importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    except ImportError as error:
        raise RunError(
            "the package tensorflow-serving-api is missing, which the warm-up requests need: "
            f"{install_command('serving')}"
        ) from error


def write_warmup(path: Path, name: str, signatures: Iterable[str], size: int) -> None:
    """Writes one request for each signature, of one drawn picture (a slope of colours, nobody).

    Args:
        path: the file.
        name: the model's name.
        signatures: of the exported model.
        size: height and width of the picture, in pixels.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    picture = slope(size)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            if signature == DEFAULT_SIGNATURE:
                content = tf.io.encode_jpeg(picture).numpy()
                request.inputs[IMAGE_BYTES].CopyFrom(tf.make_tensor_proto([content]))
            else:
                request.inputs[IMAGES].CopyFrom(tf.make_tensor_proto(picture[np.newaxis]))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def slope(size: int) -> np.ndarray:
    """`[size, size, 3]` uint8: red grows to the right, green downwards, blue is even."""
    steps = np.linspace(0, 255, size).astype(np.uint8)
    across, down = np.meshgrid(steps, steps)
    return np.stack([across, down, np.full_like(across, 128)], axis=-1)
