"""A version written by `export`, served: warm-up requests, REST, gRPC, page and `predict`."""

import base64
import dataclasses
import re
import types

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

from tests.fakes.pictures import encoded, picture
from tf_mtl_privacy.cli import predict
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.serving.server.running import CheckServer

FIGURE = re.compile(r"\b[01]\.\d+\b")


@pytest.fixture(scope="module")
def serving(exported):
    with (
        CheckServer(exported.folder.parent, "faces", poll_seconds=3600) as running,
        grpc.insecure_channel(running.grpc_address) as channel,
    ):
        yield running, prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_warm_up_requests_over_grpc_match_the_saved_model(serving, exported):
    _, stub = serving
    loaded = tf.saved_model.load(str(exported.folder))
    path = exported.folder / "assets.extra" / "tf_serving_warmup_requests"
    answered = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        answer = stub.Predict(request, timeout=60)
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        for key, value in loaded.signatures[name](**inputs).items():
            found = tf.make_ndarray(answer.outputs[key])
            assert len(found) == 1
            if value.dtype == tf.string:
                assert found.tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(found, value, atol=1e-5)
                assert np.isfinite(found).all()
        answered.append(name)
    assert sorted(answered) == sorted(loaded.signatures)


def predict_file(running, content):
    body = {"instances": [{"b64": base64.b64encode(content).decode()}]}
    url = f"{running.url}/v1/models/faces:predict"
    return httpx.post(url, json=body, trust_env=False, timeout=60)


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_rest_damaged_file_is_refused_in_one_line(serving, cut):
    content = encoded(picture(1, 60, 50), "PNG")
    answer = predict_file(serving[0], content[: int(len(content) * cut)] + content[-12:])
    text = answer.json()["error"]
    assert answer.status_code == 400 and "\n" not in text and "{{" not in text and ".py" not in text


def test_rest_and_page_match_the_saved_model(serving, exported):
    running, _ = serving
    content = encoded(picture(1, 60, 50), "JPEG")
    (found,) = predict_file(running, content).json()["predictions"]
    loaded = tf.saved_model.load(str(exported.folder))
    direct = loaded.signatures["serving_default"](image_bytes=tf.constant([content]))
    tasks = [item["task"] for item in exported.labels["tasks"]]
    for task in tasks:
        values = direct[f"{task}_probabilities"][0]
        np.testing.assert_allclose(found[f"{task}_probabilities"], values, atol=1e-5)
    page = httpx.post(f"{running.url}/page/picture", content=content, trust_env=False, timeout=60)
    shown = page.json()
    assert [item["task"] for item in shown["attributes"]] == tasks
    assert [item["title"] for item in shown["pictures"]][1:] == ["Restored", "Sensitive regions"]


@pytest.mark.parametrize(("scheme", "kind"), [("http", "csv"), ("grpc", "json")])
def test_predict_output_is_the_same_for_run_and_server(
    scheme, kind, serving, covered, tmp_path, monkeypatch, capsys
):
    running, _ = serving
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: covered)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(3):
        (pictures / f"{seed}.jpg").write_bytes(encoded(picture(seed, 60, 50), "JPEG"))
    (pictures / "none.png").write_bytes(b"hello")
    server = running.url if scheme == "http" else f"grpc://{running.grpc_address}"
    results = []
    for address in ("", server):
        output, restored = tmp_path / f"out.{kind}", tmp_path / f"restored{len(results)}"
        flags = [f"--server={server}", f"--output={output}", f"--restored_dir={restored}"]
        options = parse("predict", [*flags, str(pictures)]).options
        if not address:
            options = dataclasses.replace(options, server="", run_dir="run")
        assert predict.main(types.SimpleNamespace(options=options)) == 0
        table = output.read_text()
        printed = capsys.readouterr().out.replace(str(restored), "restored")
        results.append((FIGURE.sub("#", table), printed, FIGURE.findall(table), restored))
    (by_run, printed, figures, images), (by_server, other_printed, found, other_images) = results
    assert by_run == by_server and printed == other_printed
    assert len(found) == 3 * 5, "pictures times classes of all tasks"
    # Six digits are written; the last one may be rounded differently.
    np.testing.assert_allclose(np.float64(found), np.float64(figures), rtol=0, atol=1.5e-5)
    for image in sorted(images.iterdir()):
        pair = [
            np.asarray(Image.open(folder / image.name), int) for folder in (images, other_images)
        ]
        assert np.abs(pair[0] - pair[1]).max() <= 1
    assert len(list(other_images.iterdir())) == 3
