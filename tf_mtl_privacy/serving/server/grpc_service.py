"""TensorFlow Serving's gRPC services, with its official messages: Predict, metadata and status."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.serving.server.errors import (
    Code,
    RequestError,
    as_request_error,
    invalid,
    quoted,
)
from tf_mtl_privacy.serving.server.limits import Limits, MemoryShare
from tf_mtl_privacy.serving.server.model import (
    SIGNATURES_FIELD,
    Array,
    Arrays,
    InputSpec,
    Model,
    check_keys,
    check_range,
    check_shape,
    is_string,
    metadata,
    status,
)
from tf_mtl_privacy.serving.server.service import RequestTimer, Service


def start_grpc(service: Service, host: str, port: int) -> tuple[Any, int]:
    """Starts a gRPC server.

    Args:
        service: handles the requests.
        host: address to bind to.
        port: port; 0 for a free one.

    Returns:
        The server, and its port.

    Raises:
        RunError: the port is taken.
    """
    limits = service.limits
    options = [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    # One thread for each open call, so that no call waits behind slow ones.
    server = grpc.server(
        ThreadPoolExecutor(limits.max_queued_requests, "grpc"),
        options=options,
        maximum_concurrent_rpcs=limits.max_queued_requests,
    )
    server.add_generic_rpc_handlers(_handlers(service))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise RunError(
            f"--grpc_port={port}: cannot listen on {address}; give another port, or 0 for a free "
            "one"
        )
    server.start()
    return server, bound


def _handlers(service: Service) -> tuple[Any, ...]:
    """Handlers of the implemented methods of both services."""
    answers, receiver = _Answers(service), Receiver(service)
    predict = receiver.handler(answers.predict, predict_pb2.PredictRequest)
    metadata = receiver.handler(answers.metadata, get_model_metadata_pb2.GetModelMetadataRequest)
    status = receiver.handler(answers.status, get_model_status_pb2.GetModelStatusRequest)
    return (
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {"Predict": predict, "GetModelMetadata": metadata},
        ),
        grpc.method_handlers_generic_handler(
            "tensorflow.serving.ModelService", {"GetModelStatus": status}
        ),
    )


class Receiver:
    """Makes gRPC handlers that receive a message within limits of time and memory.

    gRPC's own handlers for a single message wait for it without a timeout and do not tell its size.
    On the wire, a call with one message is a stream of one, which threads here can read.

    Args:
        service: its limits and memory budget are used.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # A thread waiting for a message ends with its call, which an error ends.
        self._waiting = ThreadPoolExecutor(service.limits.max_queued_requests, "grpc-read")

    def handler(self, answer: Callable[[Callable[[], Any], Any], Any], message: Any) -> Any:
        """Makes a gRPC handler.

        Args:
            answer: (function that receives the message, context) -> the answer's message; both
                functions raise `RequestError`.
            message: class of the received message.
        """

        def respond(contents: Iterator[bytes], context: Any) -> Any:
            try:
                with self._service.budget.share() as share:
                    return answer(lambda: self._received(contents, share, message), context)
            except Exception as error:
                shown = as_request_error(error)
                context.abort(grpc.StatusCode[shown.code.grpc], str(shown))

        return grpc.stream_unary_rpc_method_handler(
            respond, response_serializer=lambda reply: reply.SerializeToString()
        )

    def _received(self, contents: Iterator[bytes], share: MemoryShare, message: Any) -> Any:
        seconds = self._service.limits.client_seconds
        pending = self._waiting.submit(next, contents, None)
        try:
            content = pending.result(seconds)
        except TimeoutError:
            raise RequestError(
                Code.SLOW_CLIENT, f"the request took more than {seconds:g} s to arrive"
            ) from None
        if content is None:
            raise invalid("the request has no message")
        share.take(len(content))
        try:
            return message.FromString(content)
        except DecodeError:
            raise invalid("the message cannot be parsed as this method's request") from None


class _Answers:
    """The methods, as `Receiver.handler` takes them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def predict(self, received: Callable[[], Any], context: Any) -> Any:
        with RequestTimer(self._service.metrics, "grpc") as timer:
            request = received()
            model = _find(self._service, request.model_spec)
            signature = model.signature(request.model_spec.signature_name)
            timer.signature = signature
            names = _wanted_outputs(request, model, signature)
            inputs = _inputs(request.inputs, model.inputs[signature], self._service.limits)
            future = self._service.submit(model, signature, inputs)
            try:
                outputs = future.result(self._seconds(context))
            except TimeoutError:
                future.cancel()
                raise
            return _answer(request.model_spec.name, model, signature, outputs, names)

    def metadata(self, received: Callable[[], Any], context: Any) -> Any:
        request = received()
        model = _find(self._service, request.model_spec)
        fields = list(request.metadata_field)
        if not fields:
            raise invalid(f"metadata_field: expected '{SIGNATURES_FIELD}', not nothing")
        if fields != [SIGNATURES_FIELD]:
            raise invalid(f"metadata_field: expected '{SIGNATURES_FIELD}', not {quoted(fields)}")
        return metadata(model, request.model_spec.name)

    def status(self, received: Callable[[], Any], context: Any) -> Any:
        return status(_find(self._service, received().model_spec))

    def _seconds(self, context: Any) -> float:
        """Seconds until the client's deadline or the server's limit."""
        left = context.time_remaining()
        limit = self._service.limits.answer_seconds
        return limit if left is None else min(left, limit)


def _find(service: Service, spec: Any) -> Model:
    if spec.version_label:
        label = quoted(spec.version_label)
        text = f"version label {label}: this server has no labels; give a version number"
        raise RequestError(Code.NOT_FOUND, text)
    version = spec.version.value if spec.HasField("version") else None
    return service.versions.find(spec.name, version)


def _wanted_outputs(request: Any, model: Model, signature: str) -> set[str]:
    known, asked = model.outputs(signature), set(request.output_filter)
    if asked - known:
        unknown = quoted(min(asked - known))
        raise invalid(f"output_filter: no output {unknown}; expected some of {sorted(known)}")
    return asked or known


def _inputs(protos: Any, wanted: dict[str, InputSpec], limits: Limits) -> Arrays:
    check_keys(set(protos), wanted)
    return {name: _array(name, protos[name], wanted[name], limits) for name in wanted}


def _array(name: str, proto: Any, wanted: InputSpec, limits: Limits) -> Array:
    """Converts a tensor, after checks: a few bytes can claim a shape of many gigabytes."""
    if proto.dtype != wanted.dtype.as_datatype_enum:
        given = _type_name(proto.dtype)
        raise invalid(f"{name}: expected values of type {wanted.dtype.name}, not {given}")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"{name}: expected a shape without unknown or negative sizes")
    check_shape(name, shape, wanted)
    if is_string(wanted) and shape[0] > limits.max_request_rows:
        raise invalid(f"{name}: expected at most {limits.max_request_rows} rows, not {shape[0]}")
    if math.prod(shape) > limits.max_request_bytes:
        size = f"{limits.max_request_bytes:,} values"
        raise invalid(f"{name}: expected at most {size} in a request, not shape {list(shape)[:8]}")
    if wanted.dtype.is_integer and proto.int_val:
        # This field holds all small integers; values too large for the dtype would wrap around.
        dtype = wanted.dtype.as_numpy_dtype
        check_range(name, min(proto.int_val), max(proto.int_val), dtype)
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError):
        raise invalid(f"{name}: expected values that fill the shape {list(shape)}") from None


def _type_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except (TypeError, ValueError):
        return f"number {number}"


def _answer(name: str, model: Model, signature: str, outputs: Arrays, names: set[str]) -> Any:
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name = name
    answer.model_spec.version.value = model.version
    answer.model_spec.signature_name = signature
    for key in names:
        answer.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
    return answer
