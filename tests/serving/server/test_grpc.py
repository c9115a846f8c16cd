"""gRPC with the official stubs: predictions, metadata, status, and error codes."""

import base64
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

from tests.serving.server.toy import expected, pixels, png


def request_of(signature="classify", name="toy", version=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refused(stub, request, **options):
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request, timeout=30, **options)
    details = error.value.details()
    assert details and "\n" not in details and "Traceback" not in details, details
    return error.value.code().name, details


def test_predict_pixels_and_files_return_probabilities(stub):
    images = pixels(5)
    requests = [
        request_of(images=images),
        request_of("", image_bytes=[png(image) for image in images]),
        request_of("serving_default", version=1, image_bytes=[png(image) for image in images]),
    ]
    for request in requests:
        answer = stub.Predict(request, timeout=30)
        assert answer.model_spec.version.value == 1 and answer.model_spec.name == "toy"
        for task, values in expected(images).items():
            found = tf.make_ndarray(answer.outputs[f"{task}_probabilities"])
            np.testing.assert_allclose(found, values, atol=1e-6)


def test_predict_base64_text_is_refused_with_a_hint(stub):
    text = base64.b64encode(png(pixels(1)[0]))
    code, details = refused(stub, request_of("", image_bytes=[text]))
    assert code == "INVALID_ARGUMENT"
    assert "base64 text" in details and "over gRPC the file's bytes" in details


def test_predict_output_filter_selects_outputs(stub):
    request = request_of(images=pixels(1))
    request.output_filter.append("age_label")
    assert list(stub.Predict(request, timeout=30).outputs) == ["age_label"]
    request.output_filter.append("nothing")
    assert refused(stub, request)[0] == "INVALID_ARGUMENT"


def test_metadata_and_status_match_rest(stub, channel, http):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "toy"
    request.metadata_field.append("signature_def")
    answer = stub.GetModelMetadata(request, timeout=30)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    by_rest = http.get("/v1/models/toy/metadata").json()["metadata"]["signature_def"]
    assert set(found.signature_def) == set(by_rest["signature_def"])
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "toy"
    model_stub = model_service_pb2_grpc.ModelServiceStub(channel)
    (status,) = model_stub.GetModelStatus(request, timeout=30).model_version_status
    assert status.version == 1
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request.model_spec.name = "other"
    with pytest.raises(grpc.RpcError) as error:
        model_stub.GetModelStatus(request, timeout=30)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def numbers(*values):
    """A picture of 8 by 8 pixels, with its numbers in the field for small integers."""
    request = claiming((1, 8, 8, 3))
    request.inputs["images"].int_val[:] = [0] * (8 * 8 * 3 - len(values)) + list(values)
    return request


def claiming(shape, dtype=tf.uint8):
    """A few bytes that claim to be a tensor of `shape`."""
    request = request_of()
    tensor = request.inputs["images"]
    tensor.dtype = dtype.as_datatype_enum
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.int_val.append(1)
    return request


BAD = {
    "unknown model": (request_of(name="other"), "NOT_FOUND"),
    "unknown version": (request_of(version=9, images=pixels(1)), "NOT_FOUND"),
    "unknown signature": (request_of("regress", images=pixels(1)), "INVALID_ARGUMENT"),
    "wrong key": (request_of(pictures=pixels(1)), "INVALID_ARGUMENT"),
    "no input": (request_of(), "INVALID_ARGUMENT"),
    "wrong dtype": (request_of(images=pixels(1).astype(np.float32)), "INVALID_ARGUMENT"),
    "wrong rank": (request_of(images=pixels(1)[0]), "INVALID_ARGUMENT"),
    "wrong channels": (request_of(images=pixels(1)[..., :2]), "INVALID_ARGUMENT"),
    "empty batch": (request_of(images=pixels(2)[:0]), "INVALID_ARGUMENT"),
    "10,000 pixels": (request_of(images=np.zeros((10_000, 2, 2, 3), np.uint8)), "INVALID_ARGUMENT"),
    "10,000 files": (request_of("", image_bytes=[b"x"] * 10_000), "INVALID_ARGUMENT"),
    "no picture": (request_of("", image_bytes=[b"hello"]), "INVALID_ARGUMENT"),
    "beyond a byte": (numbers(300), "INVALID_ARGUMENT"),
    "below zero": (numbers(-1), "INVALID_ARGUMENT"),
    "claimed terabytes": (claiming((1, 2**20, 2**20, 3)), "INVALID_ARGUMENT"),
    "negative size": (claiming((1, -2, 2, 3)), "INVALID_ARGUMENT"),
    "unknown dtype": (claiming((1, 2, 2, 3)), "INVALID_ARGUMENT"),
}
BAD["unknown dtype"][0].inputs["images"].dtype = 99


@pytest.mark.parametrize("case", BAD)
def test_predict_bad_request_has_a_code_and_the_next_one_works(stub, case):
    request, code = BAD[case]
    assert refused(stub, request)[0] == code
    assert stub.Predict(request_of(images=pixels(1)), timeout=30).outputs


def test_predict_large_message_is_refused(stub):
    images = np.zeros((60, 100, 100, 3), np.uint8)
    code, details = refused(stub, request_of(images=images))
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in details


PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_silent_clients_time_out_and_block_no_others(stub, channel, all_memory_released):
    stuck, end = channel.stream_unary(PREDICT), threading.Event()

    def never():
        end.wait(30)
        yield from ()

    # More than a server with a few threads could hold.
    slow = [stuck.future(never(), timeout=20) for _ in range(40)]
    try:
        assert stub.Predict(request_of(images=pixels(1)), timeout=10).outputs
        for call in slow:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "took more than 1.5 s to arrive" in call.details()
    finally:
        end.set()
    assert all_memory_released()


@pytest.mark.parametrize(
    ("messages", "words"),
    [([], "no message"), ([b"\xff"], "cannot be parsed")],
)
def test_predict_without_a_valid_message_is_refused(channel, messages, words):
    with pytest.raises(grpc.RpcError) as error:
        channel.stream_unary(PREDICT)(iter(messages), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.value.details()


def test_grpc_messages_and_http_requests_share_the_memory_budget(
    stub, ask, server, all_memory_released
):
    assert all_memory_released()
    budget, request = server.service.budget, request_of(images=pixels(1))
    with budget.share() as others:
        others.take(budget.total - request.ByteSize() + 1)
        code, details = refused(stub, request)
        assert code == "RESOURCE_EXHAUSTED" and "use all memory" in details
        by_rest = {"signature_name": "classify", "instances": pixels(1).tolist()}
        assert ask(by_rest).status_code == 429
    assert stub.Predict(request, timeout=30).outputs and all_memory_released()


def test_predict_client_deadline_is_kept(stub):
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request_of(images=pixels(1)), timeout=1e-6)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
