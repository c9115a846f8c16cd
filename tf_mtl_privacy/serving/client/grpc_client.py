"""gRPC client of TensorFlow Serving's PredictionService, with its official stubs."""

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
    one_line,
)

_ERRORS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
}


class GrpcPredictor(Predictor):
    """Sends requests over gRPC, without encryption.

    Args:
        target: `HOST:PORT`.
        options: as for `Predictor`.
    """

    def __init__(self, target: str, *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        self._target = target
        # Answers with pictures exceed gRPC's default of 4 MiB; the user trusts the named server.
        # gRPC's own retries are off, because `Retries` sets one deadline for all of them.
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
        """The server's URL."""
        return f"grpc://{self._target}"

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _send(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = self._stub.Predict(request, timeout=left)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        try:
            return {name: _array(proto) for name, proto in response.outputs.items()}
        except (ValueError, TypeError) as error:
            raise BadAnswer(f"{self}: the answer's tensors cannot be parsed") from error

    def _failure(self, error: Any) -> ClientError:
        code, reason = error.code(), one_line(error.details())
        kind = _ERRORS.get(code, BadAnswer)
        if kind is Overloaded and "message larger than max" in reason:
            kind = Refused
        return kind(f"{self}: {code.name}: {reason}")


def _array(proto: Any) -> Array:
    array = tf.make_ndarray(proto)
    if array.dtype != object:
        return array
    texts = [value.decode("utf-8", "replace") for value in array.reshape(-1)]
    return np.array(texts, dtype=object).reshape(array.shape)
