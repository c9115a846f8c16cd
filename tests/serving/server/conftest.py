import time

import grpc
import httpx
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.serving.server.toy import save_toy
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.running import CheckServer

LIMITS = Limits(
    max_request_bytes=2**20, max_request_rows=64, client_seconds=1.5, answer_seconds=30.0
)


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="session")
def server(toy_dir):
    """A server that all tests share."""
    with CheckServer(toy_dir, "toy", limits=LIMITS, poll_seconds=3600) as running:
        yield running


@pytest.fixture(scope="session")
def all_memory_released(server):
    """Returns a function that is True once requests hold no memory, within 10 s."""

    def check():
        end = time.monotonic() + 10
        while server.service.budget.used and time.monotonic() < end:
            time.sleep(0.01)
        return server.service.budget.used == 0

    return check


@pytest.fixture(scope="session")
def http(server):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture(scope="session")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="session")
def ask(http):
    """Returns a function that posts an object to `:predict`."""
    return lambda request, path="/v1/models/toy:predict": http.post(path, json=request)
