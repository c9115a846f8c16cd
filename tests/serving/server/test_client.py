"""The REST and gRPC clients: answers, batches, errors, retries, and addresses."""

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
from tf_mtl_privacy.serving.client.predictor import address_and_user, check_server, files, only
from tf_mtl_privacy.serving.client.rest_client import RestPredictor

ONCE = Retries(max_retries=0)
QUICK = Retries(first_delay=0.001, max_delay=0.002)


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    address = server.url if request.param == "rest" else f"grpc://{server.grpc_address}"
    with connect(address, "toy", retries=ONCE) as opened:
        yield opened


def test_predict_files_and_pixels_return_probabilities(client):
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


def test_predict_batches_yields_answers_in_order(client):
    images = pixels(7)
    parts = list(client.predict_batches({"images": images}, "classify", batch=3))
    assert [len(part["age_label"]) for part in parts] == [3, 3, 1]
    found = np.concatenate([part["gender_probabilities"] for part in parts])
    np.testing.assert_allclose(found, expected(images)["gender"], atol=1e-6)


def test_predict_server_refusals_raise_their_error(client, server):
    with pytest.raises(Refused, match="not a JPEG"):
        client.predict({"image_bytes": files([b"hello"])})
    with pytest.raises(Refused, match="not found in signature def"):
        client.predict({"images": pixels(1)}, "nothing")
    large = np.full((40, 100, 100, 3), 200, np.uint8)
    with pytest.raises(Refused, match=r"larger than"):
        client.predict({"images": large}, "classify")
    with connect(client.address, "other", retries=ONCE) as other, pytest.raises(NotFound):
        other.predict({"images": pixels(1)}, "classify")
    with connect(client.address, "toy", 5, retries=ONCE) as other, pytest.raises(NotFound):
        other.predict({"images": pixels(1)}, "classify")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_predict_without_a_server_raises_one_line(scheme, unused_port):
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
    """Returns a client of a server that gives these answers in turn, and the sent requests."""
    requests, left = [], list(answers)

    def answer(request):
        requests.append(request)
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    transport = httpx.MockTransport(answer)
    client = RestPredictor(f"http://{user}x/base/", "toy", retries=QUICK, transport=transport)
    return client, requests


def ok(rows=1):
    return httpx.Response(200, json={"outputs": {"y": [0.5] * rows}})


def test_predict_transient_errors_are_retried():
    client, requests = answering(
        httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(429), ok()
    )
    assert client.predict({"images": pixels(1)}, "classify")["y"] == [0.5]
    assert len(requests) == 4 and len({request.content for request in requests}) == 1
    assert str(requests[0].url) == "http://x/base/v1/models/toy:predict"
    assert json.loads(requests[0].content)["signature_name"] == "classify"


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
def test_predict_permanent_errors_raise_one_line(answer, kind):
    client, requests = answering(answer)
    with pytest.raises(kind) as refused:
        client.predict({"images": pixels(1)})
    assert len(requests) == 1
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_predict_overloaded_server_raises_after_all_retries():
    client, requests = answering(*[httpx.Response(429, headers={"retry-after": "0"})] * 9)
    with pytest.raises(Overloaded):
        client.predict({"images": pixels(1)})
    assert len(requests) == QUICK.max_retries + 1


def test_password_is_sent_to_the_proxy_and_kept_out_of_messages():
    client, requests = answering(
        httpx.Response(401, json={"error": "who are you?"}), user="me:s%40y%23@"
    )
    with pytest.raises(Refused) as refused:
        client.predict({"images": pixels(1)})
    kind, _, coded = requests[0].headers["authorization"].partition(" ")
    assert kind == "Basic" and base64.b64decode(coded) == b"me:s@y#"
    assert str(refused.value) == "http://x/base model toy: HTTP 401: who are you?"
    assert str(requests[0].url) == "http://x/base/v1/models/toy:predict"


@pytest.mark.parametrize("user", ["me:sesame", ":sesame", "sesame"])
def test_check_server_password_over_http_is_refused(user):
    for host in ("example.org", "127.0.0.1.example.org:80", "10.0.0.1"):
        with pytest.raises(UsageError, match="http sends the password unencrypted") as refused:
            check_server(f"http://{user}@{host}", "toy")
        assert "sesame" not in str(refused.value)
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
        # No scheme, or half of one; a host that browsers parse differently.
        *("me:sesame@x:8501", "http:/me:sesame@x", "http:\\\\me:sesame@x", "http://me:ses\nq@x"),
        *("https://me:12#sesame@x:1", "https://me:12/sesame@x:1", "https://me:12?sesame@x:1"),
        *("https://x/p#part", "https://x/models@v2"),
    ],
)
def test_check_server_malformed_address_is_refused(address):
    with pytest.raises(
        UsageError, match=r"expected http://HOST:PORT or grpc://HOST:PORT"
    ) as refused:
        check_server(address, "toy")
    assert "ses" not in str(refused.value)
    check_server("https://host/path", "toy")
    with pytest.raises(UsageError, match="--model_name=a/b"):
        check_server("http://x", "a/b")


class Clock:
    """A simulated clock: time passes only during delays and attempts."""

    def __init__(self, *failures, work=0.0):
        self.now, self.delays, self.left, self.failures = 100.0, [], [], list(failures)
        self.work = work

    def attempt(self, left):
        self.left.append(left)
        self.now += self.work
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def sleep(self, seconds):
        self.delays.append(seconds)
        self.now += seconds

    def call(self, retries, seconds=60.0, draw=1.0):
        simulated = {"clock": lambda: self.now, "sleep": self.sleep, "draw": lambda: draw}
        return retries.call(self.attempt, seconds, **simulated)


def test_retries_delays_double_up_to_the_maximum_times_the_jitter():
    failures = [Unavailable("gone") for _ in range(5)]
    clock = Clock(*failures)
    assert clock.call(Retries(max_retries=5, first_delay=0.5, max_delay=3.0)) == "done"
    assert clock.delays == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert clock.left == [60.0, 59.5, 58.5, 56.5, 53.5, 50.5]
    half = Clock(*[Unavailable("gone") for _ in range(2)])
    half.call(Retries(first_delay=0.5), draw=0.5)
    assert half.delays == [0.25, 0.5]


def test_retries_delay_is_at_least_retry_after():
    clock = Clock(Overloaded("full", retry_after=7.0))
    assert clock.call(Retries(), draw=0.0) == "done" and clock.delays == [7.0]


def test_retries_permanent_error_is_raised_at_once():
    clock = Clock(Refused("no"))
    with pytest.raises(Refused):
        clock.call(Retries())
    assert clock.delays == [] and len(clock.left) == 1


def test_retries_last_error_is_raised():
    clock = Clock(*[Unavailable(f"gone {number}") for number in range(9)])
    with pytest.raises(Unavailable, match="gone 2"):
        clock.call(Retries(max_retries=2, first_delay=0.1))
    assert len(clock.left) == 3


def test_retries_no_delay_exceeds_the_deadline():
    clock = Clock(*[Unavailable("gone") for _ in range(9)], work=1.0)
    with pytest.raises(
        DeadlineExceeded, match="no answer within 5 s and 2 tries; last error: gone"
    ):
        clock.call(Retries(max_retries=8, first_delay=1.0), seconds=5.0)
    assert clock.now == 103.0 and clock.delays == [1.0]
