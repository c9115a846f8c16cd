"""The REST API: answers as documented by TensorFlow Serving, and one-line errors for bad input.

Expected probabilities are computed with NumPy.
"""

import base64
import concurrent.futures
import contextlib
import http.client as http_client
import json
import socket
import struct
import time
import tracemalloc
import zlib

import numpy as np
import psutil
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.serving.server.toy import CLASSES, expected, pixels, png
from tf_mtl_privacy.serving.server.rest import write_outputs

V1 = "/v1/models/toy"


def row(content):
    return {"b64": base64.b64encode(content).decode()}


@pytest.mark.parametrize("path", [f"{V1}:predict", f"{V1}/versions/1:predict"])
def test_predict_rows_of_files_return_probabilities(ask, path):
    images = pixels(3)
    answer = ask({"instances": [row(png(image)) for image in images]}, path)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    rows = answer.json()["predictions"]
    for task, values in expected(images).items():
        np.testing.assert_allclose(
            [row[f"{task}_probabilities"] for row in rows], values, atol=1e-6
        )
        labels = [CLASSES[task][place] for place in values.argmax(1)]
        assert [row[f"{task}_label"] for row in rows] == labels
        assert rows[0][f"{task}_classes"] == CLASSES[task]


def test_predict_row_and_column_format_with_and_without_names_agree(ask):
    files = [row(png(image)) for image in pixels(2)]
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


def test_predict_single_output_has_no_name(ask):
    images = pixels(2)
    request = {"signature_name": "sensitive_regions", "instances": images.tolist()}
    found = ask(request).json()["predictions"]
    np.testing.assert_allclose(found, images[..., 1] / 255.0, atol=1e-6)
    columns = ask({"signature_name": "restore", "inputs": {"images": images.tolist()}}).json()
    np.testing.assert_allclose(columns["outputs"], images / 255.0, atol=1e-6)


def test_write_outputs_encodes_names_in_bytes_as_base64():
    outputs = {"picture_bytes": np.array([b"\xff\x00"], object), "label": np.array([b"a"], object)}
    assert write_outputs(outputs, row_format=True) == (
        b'{"predictions": [{"picture_bytes": {"b64": "/wA="}, "label": "a"}]}'
    )


def test_status_reports_the_available_version(http):
    expected_status = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (V1, f"{V1}/versions/1"):
        assert http.get(path).json() == {"model_version_status": [expected_status]}


def test_metadata_matches_the_saved_model_file(http, toy_dir):
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


def test_metrics_count_requests_at_both_paths(http, ask):
    line = 'tf_mtl_privacy_requests_total{code="OK",protocol="rest",signature="serving_default"} '

    def count(path="/monitoring/prometheus/metrics"):
        text = http.get(path).text
        found = [row.removeprefix(line) for row in text.splitlines() if row.startswith(line)]
        return float(found[0]) if found else 0.0

    before = count()
    ask({"instances": [row(png(pixels(1)[0]))]})
    assert count() == count("/metrics") == before + 1
    assert "process_resident_memory_bytes" in http.get("/metrics").text


def test_headers_are_strict_and_other_host_names_refused(http):
    headers = http.get(V1).headers
    assert headers["cache-control"] == "no-store" and "server" not in headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert http.get("/", headers={"host": "elsewhere.example"}).status_code == 400
    for host in ("localhost:8501", "127.0.0.1"):
        assert http.get("/", headers={"host": host}).status_code == 200


def claimed_png(width, height):
    """Returns a small PNG file that claims a size which would fill the memory."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def instances(*rows):
    return json.dumps({"instances": rows})


def body_of(content):
    return instances(row(content))


def classify(value, form="instances"):
    return json.dumps({"signature_name": "classify", form: value})


GOOD = png(pixels(1)[0])
TEXT = base64.b64encode(GOOD).decode()
# The remedy in every hint.
B64 = '{"b64": "<base64 of the file>"}'
FORM = b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + GOOD + b"\r\n--x--\r\n"
PIXELS = pixels(1).tolist()
JPEG_TEXT = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(99)).decode()
DATA_URL = f"data:image/png;base64,{TEXT}"
# Body, and words of the error.
BAD = {
    "not an image": (body_of(b"hello"), "not a JPEG, PNG or BMP picture"),
    "a PPM": (body_of(b"P6 8 8 255\n" + bytes(192)), "not a JPEG, PNG or BMP picture"),
    "empty file": (body_of(b""), "empty file"),
    "truncated": (body_of(GOOD[:100]), "truncated"),
    "damaged": (body_of(GOOD[:45] + bytes(9) + GOOD[54:]), ""),
    "1x1": (body_of(claimed_png(1, 1)), "smaller than 8x8"),
    "a decompression bomb": (body_of(claimed_png(10_000, 5_001)), "50 megapixels"),
    "many of 49 megapixels": (
        instances(*json.loads(body_of(claimed_png(7000, 7000)))["instances"] * 5),
        "245 megapixels",
    ),
    "wrong dtype": (classify(np.full((1, 8, 8, 3), 0.5).tolist()), "type uint8"),
    "words": (classify([[[["a", "b", "c"]]]]), "type uint8"),
    "one long word": (classify([[[["a" * 200_000] + [1] * 3000]]]), "type uint8"),
    "null": (classify([[[[None, 0, 0]]]]), "type uint8"),
    "a number instead of a list": (classify([[[[1, 2, 3], 4]]]), "equal length"),
    "above 255": (classify([[[[0, 0, 256]]]]), "[0, 255]"),
    "huge number": (classify([[[[0, 0, 10**30]]]]), "type uint8"),
    "wrong shape": (classify(pixels(1)[..., :2].tolist()), "expected shape"),
    "ragged": (classify([[[[1, 2, 3], [1]]]]), "equal length"),
    "wrong key": (classify([{"pictures": PIXELS[0]}]), "inputs images"),
    "mixed keys": (classify([{"images": PIXELS[0]}, {"other": 1}]), "same keys"),
    "empty batch": (classify([]), "1 to 64"),
    "empty columns": (classify([], "inputs"), ""),
    "batch of 10,000": (classify([0] * 10_000), "not 10000"),
    "columns of 10,000": (classify([[[[1, 2, 3]]]] * 10_000, "inputs"), "not 10000"),
    "invalid base64": ('{"instances": [{"b64": "%%%"}]}', "invalid base64"),
    "base64 of a number": ('{"instances": [{"b64": 3}]}', "expected"),
    "invalid JSON": ('{"instances": [', "not JSON (line 1"),
    "not UTF-8": (b"\xff\xfe\x00", "not JSON"),
    "nested too deeply": ("[" * 100_000, "not JSON"),
    "a deep instance": (classify(json.loads("[" * 90 + "]" * 90)), ""),
    "no object": ("[1]", "expected an object"),
    "both forms": (json.dumps({"instances": [1], "inputs": [1]}), "either"),
    "neither form": ("{}", "either"),
    "no list": (classify(3), "expected a list"),
    "unknown signature": ('{"signature_name": "x", "instances": [1]}', "not found in"),
    "signature of a number": ('{"signature_name": 3, "instances": [1]}', "a string"),
    "base64 without b64": (instances(TEXT), B64),
    "base64 without b64, by name": (instances({"image_bytes": TEXT}), B64),
    "base64 without b64, columns": (json.dumps({"inputs": [TEXT]}), B64),
    "base64 of a JPEG without b64": (instances(JPEG_TEXT), B64),
    "base64 encoded twice": (body_of(TEXT.encode()), B64),
    "a data URL": (instances(DATA_URL), B64),
    "a data URL in b64": (instances({"b64": DATA_URL}), "up to the comma"),
    "base64 with line breaks": (
        instances({"b64": TEXT[:60] + "\n" + TEXT[60:]}),
        "without line breaks",
    ),
    "base64 for URLs": ('{"instances": [{"b64": "_9j_4A-_"}]}', "with + and /"),
    "a file's name": (instances("photos/me.jpg"), "the file's content"),
    "an address": (instances("https://a.org/x"), "the file's content"),
    "another key than b64": (instances({"base64": TEXT}), B64),
    "the picture itself": (GOOD, B64),
    "a form": (FORM, B64),
    "a file instead of pixels": (classify([{"b64": TEXT}]), "serving_default"),
    "base64 instead of pixels": (classify([TEXT]), "serving_default"),
}


def check_error(answer, status, words=""):
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert words in text and "\n" not in text and len(text) < 400
    assert "Traceback" not in text and ".py" not in text and "{{" not in text


@pytest.mark.parametrize("case", BAD)
def test_predict_bad_request_has_a_reason_and_the_next_one_works(http, case):
    body, words = BAD[case]
    check_error(http.post("/v1/models/toy:predict", content=body), 400, words)
    assert http.post("/v1/models/toy:predict", content=body_of(GOOD)).status_code == 200


@pytest.mark.parametrize("case", ["words", "not an image", "empty file", "1x1", "truncated"])
def test_predict_other_errors_have_no_hint(http, case):
    answer = http.post("/v1/models/toy:predict", content=BAD[case][0])
    assert "b64" not in answer.json()["error"] and "serving_default" not in answer.json()["error"]


def test_predict_follows_the_hint(http):
    body = instances(json.loads(B64.replace("<base64 of the file>", TEXT)))
    assert http.post("/v1/models/toy:predict", content=body).status_code == 200


VERSIONS = [f"/v1/models/toy/versions/{name}:predict" for name in ("2", "latest", "9" * 23)]


@pytest.mark.parametrize("path", ["/v1/models/other:predict", *VERSIONS, "/nowhere"])
def test_unknown_path_returns_error(http, path):
    check_error(http.post(path, content=body_of(GOOD)), 404)
    check_error(http.post("/v1/models/toy:classify", content=body_of(GOOD)), 405)


@pytest.mark.parametrize("chunked", [False, True])
def test_predict_large_body_is_refused(http, chunked):
    body = (b"x" * 2**16 for _ in range(40)) if chunked else b"x" * (2**20 + 1)
    answer = http.post("/v1/models/toy:predict", content=body)
    check_error(answer, 413, "larger than 1 MiB")


@pytest.fixture
def raw(server):
    with socket.create_connection((server.host, server.port), timeout=30) as opened:
        yield opened


HEAD = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
UNKNOWN_PATH = b"POST /nowhere HTTP/1.1\r\nContent-Length: %d\r\nHost: "


def read_all(raw):
    """Reads until the server closes the connection; a reset is an error."""
    parts = []
    while part := raw.recv(2**16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("host", "status"), [(b"localhost", b"404"), (b"elsewhere.org", b"400")])
def test_refusal_arrives_before_a_late_body(raw, host, status):
    """Closing with unread bytes would reset the connection and lose the answer."""
    raw.sendall(UNKNOWN_PATH % 100 + host + b"\r\n\r\n")
    time.sleep(0.3)
    # The second request is discarded, because the connection was announced to close.
    raw.sendall(b"x" * 100 + b"GET /v1/models/toy HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.3)
    answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 " + status) and b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_refusal_does_not_wait_for_an_endless_body(raw, server):
    """The answer is immediate; the connection ends after several times the largest body."""
    raw.sendall(UNKNOWN_PATH % 10**9 + b"localhost\r\n\r\n")
    started = time.monotonic()
    answer = raw.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer
    with pytest.raises(OSError):
        for _ in range(10**9 // 2**16):
            raw.sendall(b"x" * 2**16)
    assert time.monotonic() - started < server.service.limits.client_seconds


def test_refusal_of_expect_continue_is_immediate(raw, server):
    started = time.monotonic()
    raw.sendall(UNKNOWN_PATH % 10**6 + b"localhost\r\nExpect: 100-continue\r\n\r\n")
    answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer
    assert time.monotonic() - started < server.service.limits.client_seconds


def chunk(size):
    return b"%x\r\n" % size + b"x" * size + b"\r\n"


CHUNKED = (
    b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
)


def test_refusal_after_continue_reads_the_whole_body(raw):
    """After 100 Continue, a refusal during the body must not reset the connection."""
    raw.sendall(CHUNKED + b"Expect: 100-continue\r\n\r\n")
    assert raw.recv(2**16).startswith(b"HTTP/1.1 100")
    raw.sendall(chunk(2**20 + 1))
    time.sleep(0.3)
    raw.sendall(chunk(2**18) + b"0\r\n\r\n")
    time.sleep(0.3)
    assert read_all(raw).startswith(b"HTTP/1.1 413")


def test_refused_bodies_are_released_while_clients_still_send(server):
    """40 clients, each refused after nearly 1 MiB and still sending."""
    with contextlib.ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection((server.host, server.port), timeout=30))
            for _ in range(40)
        ]
        tracemalloc.start()
        opened.callback(tracemalloc.stop)
        for client in clients:
            client.sendall(CHUNKED + b"\r\n" + chunk(2**20 - 2**10) + chunk(2**11))
        answers = [client.recv(2**16) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 413") for answer in answers)
        assert tracemalloc.get_traced_memory()[0] < 10 * 2**20
        assert server.service.budget.used == 0


def test_slow_body_times_out(raw, http, server):
    raw.sendall(HEAD + b"{")
    started = time.monotonic()
    assert raw.recv(4096).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < server.service.limits.client_seconds + 5
    assert http.get("/v1/models/toy").status_code == 200


def test_slow_header_times_out(raw, http):
    # Single bytes do not extend the timeout.
    started, answer = time.monotonic(), None
    raw.settimeout(0.3)
    while answer is None and time.monotonic() - started < 20:
        try:
            raw.sendall(b"G")
            answer = raw.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            answer = b""
    assert answer == b""
    assert http.get("/v1/models/toy").status_code == 200


def test_disconnected_clients_do_not_block_others(server, http):
    for _ in range(20):
        with socket.create_connection((server.host, server.port)) as gone:
            gone.sendall(HEAD + b"{")
    assert http.post("/v1/models/toy:predict", content=body_of(GOOD)).status_code == 200


def post(server, body):
    """Posts over a new connection; returns status and answer."""
    opened = http_client.HTTPConnection(server.host, server.port, timeout=60)
    with contextlib.closing(opened):
        opened.request("POST", "/v1/models/toy:predict", body)
        answer = opened.getresponse()
        return answer.status, json.loads(answer.read())


def test_predict_200_clients_get_their_answers_in_steady_memory(server):
    images = pixels(200, seed=1)
    wanted = expected(images)["gender"]
    process = psutil.Process()

    def ask(number):
        if number % 10 == 0:
            return post(server, list(BAD.values())[number // 10][0])[0] == 400
        status, answer = post(server, body_of(png(images[number])))
        found = answer["predictions"][0]["gender_probabilities"]
        return status == 200 and np.allclose(found, wanted[number], atol=1e-6)

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert all(pool.map(ask, range(200)))
        before = process.memory_info().rss
        assert all(pool.map(ask, list(range(200)) * 2))
    # The clients are threads of this process, so their buffers count too.
    assert process.memory_info().rss - before < 60 * 2**20
    assert len(server.service.batcher) == 0


def test_predict_string_among_numbers_makes_no_string_array(ask):
    value = [[[["a" * 200_000] + [1] * 3000]]]
    tracemalloc.start()
    try:
        assert ask({"signature_name": "classify", "instances": value}).status_code == 400
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
