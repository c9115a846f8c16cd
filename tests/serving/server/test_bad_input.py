"""Bad input over REST: a clear 4xx in one line, steady memory, and the next request works."""

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

from tests.serving.server.toy import expected, pixels, png


def claimed_png(width, height):
    """A PNG file that claims a size; what is decoded of it would fill the memory."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def file_of(content):
    return json.dumps({"instances": [{"b64": base64.b64encode(content).decode()}]})


def classify(value, form="instances"):
    return json.dumps({"signature_name": "classify", form: value})


GOOD = png(pixels(1)[0])
TEXT = base64.b64encode(GOOD).decode()
# How every refusal says what to send.
B64 = '{"b64": "<base64 of the file>"}'
FORM = b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + GOOD + b"\r\n--x--\r\n"
PIXELS = pixels(1).tolist()
BAD = {
    "not an image": (file_of(b"hello"), 400, "not a JPEG, PNG or BMP picture"),
    "a PPM": (file_of(b"P6 8 8 255\n" + bytes(192)), 400, "not a JPEG, PNG or BMP picture"),
    "empty file": (file_of(b""), 400, "empty file"),
    "truncated": (file_of(GOOD[:100]), 400, "truncated"),
    "damaged": (file_of(GOOD[:45] + bytes(9) + GOOD[54:]), 400, ""),
    "1x1": (file_of(claimed_png(1, 1)), 400, "smaller than 8x8"),
    "a bomb": (file_of(claimed_png(10_000, 5_001)), 400, "50 megapixels"),
    "many of 49 megapixels": (
        json.dumps({"instances": json.loads(file_of(claimed_png(7000, 7000)))["instances"] * 5}),
        400,
        "245 megapixels",
    ),
    "wrong dtype": (classify(np.full((1, 8, 8, 3), 0.5).tolist()), 400, "type uint8"),
    "words": (classify([[[["a", "b", "c"]]]]), 400, "type uint8"),
    "one long word": (classify([[[["a" * 200_000] + [1] * 3000]]]), 400, "type uint8"),
    "nothing": (classify([[[[None, 0, 0]]]]), 400, "type uint8"),
    "a number for a list": (classify([[[[1, 2, 3], 4]]]), 400, "equal length"),
    "beyond a byte": (classify([[[[0, 0, 256]]]]), 400, "[0, 255]"),
    "huge number": (classify([[[[0, 0, 10**30]]]]), 400, "type uint8"),
    "wrong shape": (classify(pixels(1)[..., :2].tolist()), 400, "expected shape"),
    "ragged": (classify([[[[1, 2, 3], [1]]]]), 400, "equal length"),
    "wrong key": (classify([{"pictures": PIXELS[0]}]), 400, "inputs images"),
    "mixed keys": (classify([{"images": PIXELS[0]}, {"other": 1}]), 400, "same keys"),
    "empty batch": (classify([]), 400, "1 to 64"),
    "empty columns": (classify([], "inputs"), 400, ""),
    "batch of 10,000": (classify([0] * 10_000), 400, "not 10000"),
    "columns of 10,000": (classify([[[[1, 2, 3]]]] * 10_000, "inputs"), 400, "not 10000"),
    "invalid base64": ('{"instances": [{"b64": "%%%"}]}', 400, "invalid base64"),
    "base64 of a number": ('{"instances": [{"b64": 3}]}', 400, "expected"),
    "invalid JSON": ('{"instances": [', 400, "not JSON (line 1"),
    "not UTF-8": (b"\xff\xfe\x00", 400, "not JSON"),
    "nested too deeply": ("[" * 100_000, 400, "not JSON"),
    "a deep instance": (classify(json.loads("[" * 90 + "]" * 90)), 400, ""),
    "no object": ("[1]", 400, "expected an object"),
    "both forms": (json.dumps({"instances": [1], "inputs": [1]}), 400, "either"),
    "neither form": ("{}", 400, "either"),
    "no list": (classify(3), 400, "expected a list"),
    "unknown signature": ('{"signature_name": "x", "instances": [1]}', 400, "not found in"),
    "signature of a number": ('{"signature_name": 3, "instances": [1]}', 400, "a string"),
    "too large": ("x" * (2**20 + 1), 413, "larger than 1 MiB"),
    "base64 without b64": (json.dumps({"instances": [TEXT]}), 400, B64),
    "base64 without b64, by name": (json.dumps({"instances": [{"image_bytes": TEXT}]}), 400, B64),
    "base64 without b64, columns": (json.dumps({"inputs": [TEXT]}), 400, B64),
    "base64 of a JPEG without b64": (
        json.dumps({"instances": [base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(99)).decode()]}),
        400,
        B64,
    ),
    "base64 twice": (file_of(TEXT.encode()), 400, B64),
    "a data URL": (json.dumps({"instances": [f"data:image/png;base64,{TEXT}"]}), 400, B64),
    "a data URL in b64": (
        json.dumps({"instances": [{"b64": f"data:image/png;base64,{TEXT}"}]}),
        400,
        "before the comma",
    ),
    "base64 with line breaks": (
        json.dumps({"instances": [{"b64": TEXT[:60] + "\n" + TEXT[60:]}]}),
        400,
        "without line breaks",
    ),
    "base64 for URLs": ('{"instances": [{"b64": "_9j_4A-_"}]}', 400, "with + and /"),
    "a file's name": (json.dumps({"instances": ["photos/me.jpg"]}), 400, "the file's content"),
    "an address": (json.dumps({"instances": ["https://a.org/x"]}), 400, "the file's content"),
    "another key for b64": (json.dumps({"instances": [{"base64": TEXT}]}), 400, B64),
    "the picture itself": (GOOD, 400, B64),
    "a form": (FORM, 400, B64),
    "a file for pixels": (classify([{"b64": TEXT}]), 400, "serving_default"),
    "base64 for pixels": (classify([TEXT]), 400, "serving_default"),
}


def check_refusal(answer, status, words=""):
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert words in text and "\n" not in text and len(text) < 400
    assert "Traceback" not in text and ".py" not in text and "{{" not in text


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_have_a_reason_and_the_next_one_works(http, case):
    body, status, words = BAD[case]
    check_refusal(http.post("/v1/models/toy:predict", content=body), status, words)
    assert http.post("/v1/models/toy:predict", content=file_of(GOOD)).status_code == 200


@pytest.mark.parametrize("case", ["words", "not an image", "empty file", "1x1", "truncated"])
def test_hints_are_not_given_for_other_faults(http, case):
    answer = http.post("/v1/models/toy:predict", content=BAD[case][0])
    assert "b64" not in answer.json()["error"] and "serving_default" not in answer.json()["error"]


def test_the_hint_s_remedy_works(http):
    body = json.dumps({"instances": [json.loads(B64.replace("<base64 of the file>", TEXT))]})
    assert http.post("/v1/models/toy:predict", content=body).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/other:predict", 404),
        ("/v1/models/toy/versions/2:predict", 404),
        ("/v1/models/toy/versions/latest:predict", 404),
        ("/v1/models/toy/versions/99999999999999999999999:predict", 404),
        ("/v1/models/toy:classify", 405),
        ("/nowhere", 404),
    ],
)
def test_unknown_places(http, path, status):
    check_refusal(http.post(path, content=file_of(GOOD)), status)


def test_a_body_without_a_length_is_bounded_too(http):
    parts = (b"x" * 2**16 for _ in range(40))
    check_refusal(http.post("/v1/models/toy:predict", content=parts), 413)


@pytest.fixture
def raw(server):
    with socket.create_connection((server.host, server.port), timeout=30) as opened:
        yield opened


HEAD = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"


NOWHERE = b"POST /nowhere HTTP/1.1\r\nContent-Length: %d\r\nHost: "


def everything(raw):
    """What comes until the other side closes; a reset is an error."""
    parts = []
    while part := raw.recv(2**16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("host", "status"), [(b"localhost", b"404"), (b"elsewhere.org", b"400")])
def test_a_refusal_arrives_though_the_body_comes_late(raw, host, status):
    """A server that closes with bytes unread resets the connection, and the reason is lost."""
    raw.sendall(NOWHERE % 100 + host + b"\r\n\r\n")
    time.sleep(0.3)
    # A second request is none: the connection was said to close.
    raw.sendall(b"x" * 100 + b"GET /v1/models/toy HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.3)
    answer = everything(raw)
    assert answer.startswith(b"HTTP/1.1 " + status) and b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_a_refusal_does_not_wait_for_an_endless_body(raw, server):
    """It is there at once; the connection ends when far more than a body may have was dropped."""
    raw.sendall(NOWHERE % 10**9 + b"localhost\r\n\r\n")
    started = time.monotonic()
    answer = raw.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer
    with pytest.raises(OSError):
        for _ in range(10**9 // 2**16):
            raw.sendall(b"x" * 2**16)
    assert time.monotonic() - started < server.service.limits.client_seconds


def test_who_asks_before_sending_is_refused_at_once(raw, server):
    started = time.monotonic()
    raw.sendall(NOWHERE % 10**6 + b"localhost\r\nExpect: 100-continue\r\n\r\n")
    answer = everything(raw)
    assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer
    assert time.monotonic() - started < server.service.limits.client_seconds


def chunk(size):
    return b"%x\r\n" % size + b"x" * size + b"\r\n"


CHUNKED = (
    b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
)


def test_who_asked_and_was_told_to_send_is_read_to_the_end(raw):
    """100 Continue was sent: a refusal in the middle of the body must not reset the connection."""
    raw.sendall(CHUNKED + b"Expect: 100-continue\r\n\r\n")
    assert raw.recv(2**16).startswith(b"HTTP/1.1 100")
    raw.sendall(chunk(2**20 + 1))
    time.sleep(0.3)
    raw.sendall(chunk(2**18) + b"0\r\n\r\n")
    time.sleep(0.3)
    assert everything(raw).startswith(b"HTTP/1.1 413")


def test_refused_bodies_are_not_kept_while_their_rest_is_awaited(server):
    """40 clients, each with nearly 1 MiB held when it is refused, all still sending."""
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


def test_a_slow_body_is_given_up(raw, http, server):
    raw.sendall(HEAD + b"{")
    started = time.monotonic()
    assert raw.recv(4096).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < server.service.limits.client_seconds + 5
    assert http.get("/v1/models/toy").status_code == 200


def test_a_header_that_trickles_is_given_up(raw, http):
    # A byte now and then does not put it off.
    started, answer = time.monotonic(), b"unset"
    raw.settimeout(0.3)
    while time.monotonic() - started < 20:
        try:
            raw.sendall(b"G")
            answer = raw.recv(4096)
            break
        except TimeoutError:
            continue
        except OSError:
            answer = b""
            break
    assert answer == b""
    assert http.get("/v1/models/toy").status_code == 200


def test_a_client_that_leaves_is_forgotten(server, http):
    for _ in range(20):
        with socket.create_connection((server.host, server.port)) as gone:
            gone.sendall(HEAD + b"{")
    assert http.post("/v1/models/toy:predict", content=file_of(GOOD)).status_code == 200


def post(server, body):
    """Status and answer, by a connection of its own."""
    opened = http_client.HTTPConnection(server.host, server.port, timeout=60)
    with contextlib.closing(opened):
        opened.request("POST", "/v1/models/toy:predict", body)
        answer = opened.getresponse()
        return answer.status, json.loads(answer.read())


def test_two_hundred_clients_at_once_and_steady_memory(server):
    images = pixels(200, seed=1)
    wanted = expected(images)["gender"]
    process = psutil.Process()

    def ask(number):
        if number % 10 == 0:
            body, status, _ = list(BAD.values())[number // 10]
            return post(server, body)[0] == status
        status, answer = post(server, file_of(png(images[number])))
        found = answer["predictions"][0]["gender_probabilities"]
        return status == 200 and np.allclose(found, wanted[number], atol=1e-6)

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert all(pool.map(ask, range(200)))
        before = process.memory_info().rss
        assert all(pool.map(ask, list(range(200)) * 2))
    # The clients are threads of this process; their buffers are part of it.
    assert process.memory_info().rss - before < 60 * 2**20
    assert len(server.service.batcher) == 0


def test_a_word_among_numbers_makes_no_array_of_words(ask):
    value = [[[["a" * 200_000] + [1] * 3000]]]
    tracemalloc.start()
    try:
        assert ask({"signature_name": "classify", "instances": value}).status_code == 400
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
