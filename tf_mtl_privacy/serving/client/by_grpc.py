"""A client of TensorFlow Serving's PredictionService, by the official stubs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_mtl_privacy.serving.client.predictor import (
    Array,
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Predictor,
    Refused,
    Unavailable,
)

_KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
}


class GrpcPredictor(Predictor):
    """Asks by gRPC, without encryption.

    Args:
        target: `HOST:PORT`.
        options: as for `Predictor`.
    """

    def __init__(self, target: str, *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        self._target = target
        # Answers with pictures are larger than gRPC's 4 MiB; a server that was named is trusted.
        # Its own retries are switched off: those here have a deadline for all of them.
        channel_options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = grpc.insecure_channel(target, options=channel_options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    @property
    def address(self) -> str:
        """The server's address."""
        return f"grpc://{self._target}"

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _ask(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = self._stub.Predict(request, timeout=left)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        try:
            return {name: _array(proto) for name, proto in answer.outputs.items()}
        except (ValueError, TypeError) as error:
            raise BadAnswer(f"{self}: the answer's tensors cannot be read") from error

    def _failure(self, error: Any) -> ClientError:
        code, told = error.code(), " ".join((error.details() or "no reason given").split())[:300]
        kind = _KINDS.get(code, BadAnswer)
        if kind is Overloaded and "message larger than max" in told:
            kind = Refused
        return kind(f"{self}: {code.name}: {told}")


def _array(proto: Any) -> Array:
    found = tf.make_ndarray(proto)
    if found.dtype != object:
        return found
    texts = [value.decode("utf-8", "replace") for value in found.reshape(-1)]
    return np.array(texts, dtype=object).reshape(found.shape)
