"""The REST API answers as TensorFlow Serving's documentation says, with figures worked by NumPy."""

import base64

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.serving.server.toy import CLASSES, expected, pixels, png
from tf_mtl_privacy.serving.server.rest import write_outputs

V1 = "/v1/models/toy"


@pytest.mark.parametrize("path", [f"{V1}:predict", f"{V1}/versions/1:predict"])
def test_rows_of_files(ask, b64, path):
    images = pixels(3)
    answer = ask({"instances": [b64(png(image)) for image in images]}, path)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    rows = answer.json()["predictions"]
    for task, values in expected(images).items():
        np.testing.assert_allclose(
            [row[f"{task}_probabilities"] for row in rows], values, atol=1e-6
        )
        labels = [CLASSES[task][place] for place in values.argmax(1)]
        assert [row[f"{task}_label"] for row in rows] == labels
        assert rows[0][f"{task}_classes"] == CLASSES[task]


def test_rows_and_columns_by_name_and_without_say_the_same(ask, b64):
    files = [b64(png(image)) for image in pixels(2)]
    requests = [
        {"instances": files},
        {"instances": [{"image_bytes": file} for file in files]},
        {"signature_name": "serving_default", "inputs": files},
        {"inputs": {"image_bytes": files}},
    ]
    rows, named, columns, by_name = [ask(request).json() for request in requests]
    assert rows == named and columns == by_name
    assert list(rows) == ["predictions"] and list(columns) == ["outputs"]
    for key, values in columns["outputs"].items():
        assert [row[key] for row in rows["predictions"]] == values


def test_pixels_and_an_answer_of_one_output_without_its_name(ask):
    images = pixels(2)
    request = {"signature_name": "sensitive_regions", "instances": images.tolist()}
    found = ask(request).json()["predictions"]
    np.testing.assert_allclose(found, images[..., 1] / 255.0, atol=1e-6)
    columns = ask({"signature_name": "restore", "inputs": {"images": images.tolist()}}).json()
    np.testing.assert_allclose(columns["outputs"], images / 255.0, atol=1e-6)


def test_outputs_named_bytes_are_base64():
    outputs = {"picture_bytes": np.array([b"\xff\x00"], object), "label": np.array([b"a"], object)}
    assert write_outputs(outputs, rows=True) == (
        b'{"predictions": [{"picture_bytes": {"b64": "/wA="}, "label": "a"}]}'
    )
    assert base64.b64decode("/wA=") == b"\xff\x00"


def test_status(http):
    expected_status = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (V1, f"{V1}/versions/1"):
        assert http.get(path).json() == {"model_version_status": [expected_status]}


def test_metadata_is_what_the_file_says(http, toy_dir):
    answer = http.get(f"{V1}/metadata").json()
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    found = answer["metadata"]["signature_def"]["signature_def"]
    content = (toy_dir / "1" / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    for name, definition in found.items():
        saved = graph.signature_def[name]
        assert set(definition["outputs"]) == set(saved.outputs)
        for key, tensor in definition["inputs"].items():
            assert tensor["name"] == saved.inputs[key].name
            sizes = [int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]]
            assert sizes == [dim.size for dim in saved.inputs[key].tensor_shape.dim]
    assert found["classify"]["inputs"]["images"]["dtype"] == "DT_UINT8"
    assert set(found) == {"serving_default", "classify", "restore", "sensitive_regions"}


def test_metrics_count_requests_at_both_paths(http, ask, b64):
    line = 'tf_mtl_privacy_requests_total{code="OK",protocol="rest",signature="serving_default"} '

    def count(path="/monitoring/prometheus/metrics"):
        text = http.get(path).text
        found = [row.removeprefix(line) for row in text.splitlines() if row.startswith(line)]
        return float(found[0]) if found else 0.0

    before = count()
    ask({"instances": [b64(png(pixels(1)[0]))]})
    assert count() == count("/metrics") == before + 1
    assert "process_resident_memory_bytes" in http.get("/metrics").text


def test_browsers_are_kept_strict_and_other_names_out(http):
    headers = http.get(V1).headers
    assert headers["cache-control"] == "no-store" and "server" not in headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert http.get("/", headers={"host": "elsewhere.example"}).status_code == 400
    for host in ("localhost:8501", "127.0.0.1"):
        assert http.get("/", headers={"host": host}).status_code == 200
