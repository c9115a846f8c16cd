"""Clients by REST and gRPC: the same answers, batches, and each failure by its name."""

import base64
import json

import httpx
import numpy as np
import pytest

from tests.serving.server.toy import expected, pixels, png
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.serving.client import (
    BadAnswer,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Refused,
    Retries,
    Unavailable,
    connect,
)
from tf_mtl_privacy.serving.client.by_rest import RestPredictor
from tf_mtl_privacy.serving.client.predictor import address_and_user, check_server, files, only

ONCE = Retries(most=0)
QUICK = Retries(first=0.001, longest=0.002)


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    address = server.url if request.param == "rest" else f"grpc://{server.grpc_address}"
    with connect(address, "toy", retries=ONCE) as opened:
        yield opened


def test_files_and_pixels(client):
    images = pixels(3)
    by_file = client.predict({"image_bytes": files([png(image) for image in images])})
    by_pixel = client.predict({"images": images}, "classify")
    for task, values in expected(images).items():
        for found in (by_file, by_pixel):
            np.testing.assert_allclose(found[f"{task}_probabilities"], values, atol=1e-6)
            assert isinstance(found[f"{task}_label"][0], str)
    restored = only(client.predict({"images": images}, "restore"), "restored")
    np.testing.assert_allclose(restored, images / 255.0, atol=1e-6)
    assert restored.dtype == np.float32


def test_batches_in_order(client):
    images = pixels(7)
    parts = list(client.predict_batches({"images": images}, "classify", batch=3))
    assert [len(part["age_label"]) for part in parts] == [3, 3, 1]
    found = np.concatenate([part["gender_probabilities"] for part in parts])
    np.testing.assert_allclose(found, expected(images)["gender"], atol=1e-6)


def test_failures_by_name(client, server):
    with pytest.raises(Refused, match="not a JPEG"):
        client.predict({"image_bytes": files([b"hello"])})
    with pytest.raises(Refused, match="not found in signature def"):
        client.predict({"images": pixels(1)}, "nothing")
    large = np.full((40, 100, 100, 3), 200, np.uint8)
    with pytest.raises(Refused, match=r"larger than"):
        client.predict({"images": large}, "classify")
    with connect(_address(client), "other", retries=ONCE) as other, pytest.raises(NotFound):
        other.predict({"images": pixels(1)}, "classify")
    with connect(_address(client), "toy", 5, retries=ONCE) as other, pytest.raises(NotFound):
        other.predict({"images": pixels(1)}, "classify")


def _address(client):
    return client.address


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server(scheme, unused_port):
    client = connect(f"{scheme}://127.0.0.1:{unused_port}", "toy", retries=ONCE, seconds=5)
    with client, pytest.raises((Unavailable, DeadlineExceeded)) as refused:
        client.predict({"images": pixels(1)}, "classify")
    assert isinstance(refused.value, RunError) and "\n" not in str(refused.value)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def answering(*answers, user=""):
    """A client whose server gives these answers in turn, and what it was asked."""
    asked, left = [], list(answers)

    def answer(request):
        asked.append(request)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    transport = httpx.MockTransport(answer)
    return RestPredictor(f"http://{user}x/base/", "toy", retries=QUICK, transport=transport), asked


def ok(rows=1):
    return httpx.Response(200, json={"outputs": {"y": [0.5] * rows}})


def test_transient_answers_are_asked_for_again():
    client, asked = answering(
        httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(429), ok()
    )
    assert client.predict({"images": pixels(1)}, "classify")["y"] == [0.5]
    assert len(asked) == 4 and len({request.content for request in asked}) == 1
    assert str(asked[0].url) == "http://x/base/v1/models/toy:predict"
    assert json.loads(asked[0].content)["signature_name"] == "classify"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(400, json={"error": "two\nlines"}), Refused),
        (httpx.Response(404, text="<html>"), NotFound),
        (httpx.Response(413), Refused),
        (httpx.Response(500, text="x" * 9999), BadAnswer),
        (httpx.Response(504), DeadlineExceeded),
        (httpx.ReadTimeout("slow"), DeadlineExceeded),
        (httpx.Response(200, text="no JSON"), BadAnswer),
        (httpx.Response(200, json={"predictions": []}), BadAnswer),
        (httpx.Response(200, json={"outputs": {"y": [None]}}), BadAnswer),
        (ok(rows=2), BadAnswer),
    ],
)
def test_other_answers_are_final_and_told_in_one_line(answer, kind):
    client, asked = answering(answer)
    with pytest.raises(kind) as refused:
        client.predict({"images": pixels(1)})
    assert len(asked) == 1
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_server_that_stays_busy():
    client, asked = answering(*[httpx.Response(429, headers={"retry-after": "0"})] * 9)
    with pytest.raises(Overloaded):
        client.predict({"images": pixels(1)})
    assert len(asked) == QUICK.most + 1


def test_a_password_goes_to_the_proxy_and_into_no_message():
    client, asked = answering(
        httpx.Response(401, json={"error": "who are you?"}), user="me:s%40y%23@"
    )
    with pytest.raises(Refused) as refused:
        client.predict({"images": pixels(1)})
    kind, _, coded = asked[0].headers["authorization"].partition(" ")
    assert kind == "Basic" and base64.b64decode(coded) == b"me:s@y#"
    assert str(refused.value) == "http://x/base model toy: HTTP 401: who are you?"
    assert str(asked[0].url) == "http://x/base/v1/models/toy:predict"


@pytest.mark.parametrize("user", ["me:sesame", ":sesame", "sesame"])
def test_a_password_goes_over_no_network_unencrypted(user):
    for host in ("example.org", "127.0.0.1.example.org:80", "10.0.0.1"):
        with pytest.raises(UsageError, match="over http can be read on its way") as told:
            check_server(f"http://{user}@{host}", "toy")
        assert "sesame" not in str(told.value)
        check_server(f"https://{user}@{host}", "toy")
    for host in ("localhost:8501", "127.0.0.1", "[::1]:8501"):
        check_server(f"http://{user}@{host}/base", "toy")
        address, auth = address_and_user(f"http://{user}@{host}/base/")
        assert address == f"http://{host}/base"
        name, _, password = user.partition(":")
        assert auth == (name, password)
    assert address_and_user("http://x:1") == ("http://x:1", None)


@pytest.mark.parametrize(
    "address",
    [
        *("", "127.0.0.1:8500", "ftp://x", "grpc://x", "http://", "http://x:port", "grpc://x:1/y"),
        *("grpc://me:sesame@x:1", "ftp://me:sesame@x", "http://me:ses@me@", "https://me:ses@me@x"),
        # No scheme, or half of one; what a browser would take for another host.
        *("me:sesame@x:8501", "http:/me:sesame@x", "http:\\\\me:sesame@x", "http://me:ses\nq@x"),
        *("https://me:12#sesame@x:1", "https://me:12/sesame@x:1", "https://me:12?sesame@x:1"),
        *("https://x/p#part", "https://x/models@v2"),
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(UsageError, match=r"expected http://HOST:PORT or grpc://HOST:PORT") as told:
        check_server(address, "toy")
    assert "ses" not in str(told.value)
    check_server("https://host/path", "toy")
    with pytest.raises(UsageError, match="--model_name=a/b"):
        check_server("http://x", "a/b")
