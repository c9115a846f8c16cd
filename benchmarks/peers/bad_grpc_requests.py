"""Bad gRPC requests for the load test, each with the status it must get."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_SECONDS = 120


def messages(name: str, picture: bytes) -> dict[str, tuple[bytes, str]]:
    """Returns messages by name, each with the status it must get; the last one is good.

    Args:
        name: the model's name.
        picture: a valid picture file.
    """

    def message(content: bytes, signature: str = "") -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([content]))
        return bytes(request.SerializeToString())

    return {
        "not an image": (message(b"hello"), "INVALID_ARGUMENT"),
        "truncated": (message(picture[:60]), "INVALID_ARGUMENT"),
        "unknown signature": (message(picture, "x"), "INVALID_ARGUMENT"),
        "no message": (b"\xff", "INVALID_ARGUMENT"),
        "40 MiB": (b"x" * (40 * 2**20), "RESOURCE_EXHAUSTED"),
        "a good picture": (message(picture), "OK"),
    }


def wrong_statuses(address: str, requests: dict[str, tuple[bytes, str]]) -> list[str]:
    """Sends each request once; returns a line for each wrong status."""
    wrong = []
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(_PREDICT)
        for name, (content, status) in requests.items():
            given = _status(ask.future(content, timeout=_SECONDS))
            if given != status:
                wrong.append(f"{name} over gRPC: {given}, expected {status}")
    return wrong


def silent_calls(address: str, calls: int) -> list[str]:
    """Opens calls that send nothing; returns a line for each that the server did not end."""
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait(_SECONDS)
        yield from ()

    with grpc.insecure_channel(address) as channel:
        ask = channel.stream_unary(_PREDICT)
        opened = [ask.future(nothing(), timeout=_SECONDS) for _ in range(calls)]
        try:
            # The client's own deadline has the same status but another message.
            messages = [call.details() or "" for call in opened]
        finally:
            end.set()
    return [f"silent gRPC call: {text!r}" for text in messages if "to arrive" not in text]


def _status(call: grpc.Future) -> str:
    return str(call.code().name)
