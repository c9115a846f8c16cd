"""The warm-up file has what TensorFlow Serving expects, and its requests get answers."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.export import warmup


def records(folder):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    return [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]


def test_one_request_for_each_signature_and_each_is_answered(exported, loaded):
    requests = [record.predict_log.request for record in records(exported.folder)]
    assert {request.model_spec.name for request in requests} == {"faces"}
    assert sorted(r.model_spec.signature_name for r in requests) == sorted(loaded.signatures)
    for request in requests:
        inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
        signature = loaded.signatures[request.model_spec.signature_name]
        answer = signature(**{key: tf.constant(value) for key, value in inputs.items()})
        for value in answer.values():
            assert value.shape[0] == 1
            assert value.dtype == tf.string or np.isfinite(value).all()


def test_without_the_stubs_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(warmup.importlib, "import_module", _missing)
    with pytest.raises(
        RunError, match=r"tensorflow-serving-api is missing.*pip install '\.\[serving\]'"
    ):
        warmup.require_stubs()


def _missing(name):
    raise ImportError(name)
