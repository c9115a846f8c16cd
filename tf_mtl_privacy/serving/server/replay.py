"""Replays a version's recorded requests before it is served, as TensorFlow Serving does."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tf_mtl_privacy.contract import EXTRA_FOLDER, WARMUP_FILE
from tf_mtl_privacy.serving.server.model import Array, Model
from tf_mtl_privacy.serving.server.refusal import Refusal


def recorded(model: Model) -> Iterator[tuple[str, dict[str, Array]]]:
    """(signature, inputs) of each recorded Predict request; none where there is no such file."""
    path = model.folder / EXTRA_FOLDER / WARMUP_FILE
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def replay(model: Model) -> int:
    """Runs the recorded requests; returns how many ran. One that is refused is passed over."""
    ran = 0
    for signature, inputs in recorded(model):
        try:
            model.run(model.signature(signature), inputs)
            ran += 1
        except Refusal:
            continue
    return ran
