"""What a served version is and takes, as TensorFlow Serving tells it: protocol buffers and JSON."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
)

from tf_mtl_privacy.serving.server.model import Model

SIGNATURES_FIELD = "signature_def"


def status(model: Model) -> Any:
    """`GetModelStatusResponse` of the version that is served."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    found = answer.model_version_status.add()
    found.version = model.version
    found.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    found.status.SetInParent()
    return answer


def metadata(model: Model, name: str) -> Any:
    """`GetModelMetadataResponse` with the signatures."""
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = name
    answer.model_spec.version.value = model.version
    answer.metadata[SIGNATURES_FIELD].Pack(_signatures(model))
    return answer


def status_json(model: Model) -> dict[str, Any]:
    """`status` as the REST API has it."""
    return {
        "model_version_status": [
            {
                "version": str(model.version),
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def metadata_json(model: Model, name: str) -> dict[str, Any]:
    """`metadata` as the REST API has it."""
    signatures = json_format.MessageToDict(
        _signatures(model),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(model.version)},
        "metadata": {SIGNATURES_FIELD: signatures},
    }


def _signatures(model: Model) -> Any:
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.definitions.items():
        found.signature_def[name].CopyFrom(definition)
    return found
