"""A version that `export` wrote, through the server: its recorded requests, REST and gRPC."""

import base64

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.serving.server.running import CheckServer


@pytest.fixture(scope="module")
def serving(exported):
    with (
        CheckServer(exported.folder.parent, "faces", poll_seconds=3600) as running,
        grpc.insecure_channel(running.grpc_address) as channel,
    ):
        yield running, prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_recorded_requests_replay(serving, exported):
    _, stub = serving
    loaded = tf.saved_model.load(str(exported.folder))
    path = exported.folder / "assets.extra" / "tf_serving_warmup_requests"
    replayed = set()
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        answer = stub.Predict(request, timeout=60)
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        for key, value in loaded.signatures[name](**inputs).items():
            found = tf.make_ndarray(answer.outputs[key])
            if value.dtype == tf.string:
                assert found.tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(found, value, atol=1e-5)
        replayed.add(name)
    assert replayed == set(loaded.signatures)


def test_a_file_over_rest_and_its_page(serving, exported):
    running, _ = serving
    content = encoded(picture(1, 60, 50), "JPEG")
    row = {"b64": base64.b64encode(content).decode()}
    url = f"{running.url}/v1/models/faces:predict"
    answer = httpx.post(url, json={"instances": [row]}, trust_env=False, timeout=60)
    (found,) = answer.json()["predictions"]
    loaded = tf.saved_model.load(str(exported.folder))
    direct = loaded.signatures["serving_default"](image_bytes=tf.constant([content]))
    tasks = [item["task"] for item in exported.labels["tasks"]]
    for task in tasks:
        values = direct[f"{task}_probabilities"][0]
        np.testing.assert_allclose(found[f"{task}_probabilities"], values, atol=1e-5)
    page = httpx.post(f"{running.url}/page/picture", content=content, trust_env=False, timeout=60)
    said = page.json()
    assert [item["task"] for item in said["attributes"]] == tasks
    assert [item["title"] for item in said["pictures"]][1:] == ["Restored", "Sensitive regions"]


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_damaged_file_is_refused_in_one_line(serving, cut):
    running, _ = serving
    content = encoded(picture(1, 60, 50), "PNG")
    damaged = content[: int(len(content) * cut)] + content[-12:]
    row = {"b64": base64.b64encode(damaged).decode()}
    url = f"{running.url}/v1/models/faces:predict"
    answer = httpx.post(url, json={"instances": [row]}, trust_env=False, timeout=60)
    text = answer.json()["error"]
    assert answer.status_code == 400 and "\n" not in text and "{{" not in text and ".py" not in text
