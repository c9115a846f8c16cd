"""TensorFlow Serving's gRPC services, by its official messages: Predict, metadata and status.

Receives a message of gRPC within bounds of time and memory.

gRPC's own handlers for one message wait for it without an end, and tell its size to nobody. On the
wire a call with one message is a stream of one, and a stream is read by our own threads.
"""

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
from tf_mtl_privacy.serving.server.errors import Code, Refusal, invalid, quoted
from tf_mtl_privacy.serving.server.limits import Limits, Share
from tf_mtl_privacy.serving.server.model import (
    SIGNATURES_FIELD,
    Array,
    Model,
    Tensor,
    check_keys,
    check_range,
    check_shape,
    is_string,
    metadata,
    status,
)
from tf_mtl_privacy.serving.server.service import Measured, Service, refusal_of


class Receiver:
    """Makes handlers that read a message of gRPC before they answer it.

    Args:
        service: whose limits, memory and counters it uses.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # A thread that waits for a message ends with its call, which the refusal ends.
        self._waiting = ThreadPoolExecutor(service.limits.queue, "grpc-read")

    def handler(self, answer: Callable[[Callable[[], Any], Any], Any], message: Any) -> Any:
        """A handler of gRPC.

        Args:
            answer: (function that receives the message, context) -> the answer's message; both
                functions raise `Refusal`.
            message: class of what is received.
        """

        def respond(contents: Iterator[bytes], context: Any) -> Any:
            try:
                with self._service.budget.share() as share:
                    return answer(lambda: self._received(contents, share, message), context)
            except Exception as error:
                refusal = refusal_of(error)
                context.abort(grpc.StatusCode[refusal.code.grpc], str(refusal))

        return grpc.stream_unary_rpc_method_handler(
            respond, response_serializer=lambda found: found.SerializeToString()
        )

    def _received(self, contents: Iterator[bytes], share: Share, message: Any) -> Any:
        seconds = self._service.limits.client_seconds
        coming = self._waiting.submit(next, contents, None)
        try:
            content = coming.result(seconds)
        except TimeoutError:
            raise Refusal(
                Code.SLOW_CLIENT, f"the request took more than {seconds:g} s to come in"
            ) from None
        if content is None:
            raise invalid("the request has no message")
        share.take(len(content))
        try:
            return message.FromString(content)
        except DecodeError:
            raise invalid("the message is not one of this call's kind") from None


def start_grpc(service: Service, host: str, port: int) -> tuple[Any, int]:
    """A started gRPC server, and its port.

    Args:
        service: what answers.
        host: address to bind to.
        port: its port; 0 for a free one.

    Raises:
        RunError: the port is taken.
    """
    limits = service.limits
    options = [
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    # A thread for each that is being answered, and no more that are: none waits behind slow ones.
    server = grpc.server(
        ThreadPoolExecutor(limits.queue, "grpc"),
        options=options,
        maximum_concurrent_rpcs=limits.queue,
    )
    server.add_generic_rpc_handlers(_handlers(service))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise RunError(f"--grpc_port={port}: cannot listen on {address}; is it taken?")
    server.start()
    return server, bound


def _handlers(service: Service) -> tuple[Any, ...]:
    """What is answered of both services; the rest is unimplemented."""
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


class _Answers:
    """Answers of requests, as `Receiver.handler` takes them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def predict(self, received: Callable[[], Any], context: Any) -> Any:
        with Measured(self._service.metrics, "grpc") as measured:
            request = received()
            model = _find(self._service, request.model_spec)
            signature = model.signature(request.model_spec.signature_name)
            measured.signature = signature
            names = _wanted_outputs(request, model, signature)
            inputs = _inputs(request.inputs, model.inputs[signature], self._service.limits)
            future = self._service.submit(model, signature, inputs)
            try:
                found = future.result(self._seconds(context))
            except TimeoutError:
                future.cancel()
                raise
            return _answer(request.model_spec.name, model, signature, found, names)

    def metadata(self, received: Callable[[], Any], context: Any) -> Any:
        request = received()
        model = _find(self._service, request.model_spec)
        fields = list(request.metadata_field)
        if not fields:
            raise invalid("metadata_field: expected at least one")
        if fields != [SIGNATURES_FIELD]:
            raise invalid(f"metadata_field {quoted(fields)}: expected '{SIGNATURES_FIELD}'")
        return metadata(model, request.model_spec.name)

    def status(self, received: Callable[[], Any], context: Any) -> Any:
        return status(_find(self._service, received().model_spec))

    def _seconds(self, context: Any) -> float:
        """How long the client, or the limit, lets it take."""
        left = context.time_remaining()
        most = self._service.limits.answer_seconds
        return most if left is None else min(left, most)


def _find(service: Service, spec: Any) -> Model:
    if spec.version_label:
        raise Refusal(Code.NOT_FOUND, f"version label {quoted(spec.version_label)}: there is none")
    version = spec.version.value if spec.HasField("version") else None
    return service.versions.find(spec.name, version)


def _wanted_outputs(request: Any, model: Model, signature: str) -> set[str]:
    known, asked = model.outputs(signature), set(request.output_filter)
    if asked - known:
        raise invalid(f"output_filter: no output {quoted(min(asked - known))}")
    return asked or known


def _inputs(protos: Any, wanted: dict[str, Tensor], limits: Limits) -> dict[str, Array]:
    check_keys(set(protos), wanted)
    return {name: _array(name, protos[name], wanted[name], limits) for name in wanted}


def _array(name: str, proto: Any, wanted: Tensor, limits: Limits) -> Array:
    """A tensor, checked before a shape that promises too much is filled."""
    if proto.dtype != wanted.dtype.as_datatype_enum:
        given = _type_name(proto.dtype)
        raise invalid(f"{name}: expected values of type {wanted.dtype.name}, not {given}")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"{name}: expected a shape without unknown sizes")
    check_shape(name, shape, wanted)
    if math.prod(shape) > limits.body_bytes or (is_string(wanted) and shape[0] > limits.rows):
        raise invalid(f"{name}: shape {list(shape)[:8]} is more than is taken in a request")
    if wanted.dtype.is_integer and proto.int_val:
        # It carries all small integers, and what is too large for the type would wrap around.
        kind = wanted.dtype.as_numpy_dtype
        check_range(name, min(proto.int_val), max(proto.int_val), kind)
    try:
        found = tf.make_ndarray(proto)
    except (ValueError, TypeError):
        raise invalid(f"{name}: its values do not fill its shape {list(shape)}") from None
    return found


def _type_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except (TypeError, ValueError):
        return f"number {number}"


def _answer(
    name: str, model: Model, signature: str, found: dict[str, Array], names: set[str]
) -> Any:
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name = name
    answer.model_spec.version.value = model.version
    answer.model_spec.signature_name = signature
    for key in names:
        answer.outputs[key].CopyFrom(tf.make_tensor_proto(found[key]))
    return answer
