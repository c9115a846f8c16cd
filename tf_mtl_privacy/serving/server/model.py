"""A loaded SavedModel version: signatures, status and metadata, warm-up, and input checks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    prediction_log_pb2,
)

from tf_mtl_privacy.data.headers import BadPicture, read_header
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.serving.server.errors import (
    AS_JSON,
    RequestError,
    invalid,
    picture_hint,
    quoted,
)
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving_signature import (
    DEFAULT_SIGNATURE,
    EXTRA_FOLDER,
    IMAGE_BYTES,
    WARMUP_FILE,
)

Array = np.ndarray[Any, Any]
# Input or output name -> array.
Arrays = dict[str, Array]


class InputSpec(NamedTuple):
    """TensorFlow dtype and shape of a signature's input; `shape` has None for any length."""

    dtype: Any
    shape: tuple[int | None, ...]


class Model:
    """A version of a model.

    Args:
        folder: the version's folder, named by its number, with `saved_model.pb`.

    Attributes:
        inputs: signature -> input name -> `InputSpec`.
        definitions: signature -> `SignatureDef`.

    Raises:
        RunError: the model cannot be loaded, or has no signature.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, int(folder.name)
        try:
            # Kept, because its variables live only as long as it does.
            self._loaded = tf.saved_model.load(str(folder))
            self.definitions = _definitions(folder)
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).strip().split("\n", 1)[0][:200]
            raise RunError(f"{folder} cannot be loaded as a SavedModel: {reason}") from error
        self._functions = dict(self._loaded.signatures)
        self.inputs = {name: _inputs(function) for name, function in self._functions.items()}
        if not self._functions:
            raise RunError(f"{folder} has no signature to serve")

    def signature(self, name: str) -> str:
        """Returns `name`, or the default signature's name if it is empty.

        Raises:
            RequestError: the model has no such signature.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self._functions:
            known = ", ".join(sorted(self._functions))
            raise invalid(
                f"Serving signature name: {quoted(name)} not found in signature def; expected one "
                f"of {known}"
            )
        return name

    def outputs(self, signature: str) -> set[str]:
        """Names of a signature's outputs."""
        return set(self._functions[signature].structured_outputs)

    def run(self, signature: str, inputs: Mapping[str, Array]) -> Arrays:
        """Runs a signature.

        Raises:
            RequestError: the model refuses the inputs.
        """
        try:
            outputs = self._functions[signature](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
        except tf.errors.InvalidArgumentError as error:
            raise invalid(model_message(error.message)) from None
        return {name: value.numpy() for name, value in outputs.items()}

    def extra(self, name: str) -> Any:
        """Reads a JSON file of `assets.extra`; None if it is missing or unreadable."""
        try:
            return json.loads((self.folder / EXTRA_FOLDER / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def model_message(message: str) -> str:
    """Shortens TensorFlow's message about a refused input to one line without node names."""
    text = re.sub(r"\{\{[^}]*\}\}\s*|\[\[.*?\]\]|\[Op:\w*\].*", " ", message)
    text = re.sub(r"^.*?assertion failed:\s*\[?|\bDetected at node.*", "", text, flags=re.DOTALL)
    first = next((line.strip(" []:") for line in text.split("\n") if line.strip(" []:")), "")
    words = re.sub(r"\s+", " ", first.replace("] [", " "))
    return words[:200] or "the model refuses this input"


def _inputs(function: Any) -> dict[str, InputSpec]:
    _, named = function.structured_input_signature
    return {
        name: InputSpec(
            spec.dtype, (None,) if spec.shape.rank is None else tuple(spec.shape.as_list())
        )
        for name, spec in named.items()
    }


def _definitions(folder: Path) -> dict[str, Any]:
    """Reads signature -> `SignatureDef` from the file."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = next(graph for graph in parsed.meta_graphs if "serve" in graph.meta_info_def.tags)
    return {
        name: definition
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    }


SIGNATURES_FIELD = "signature_def"


def status(model: Model) -> Any:
    """Returns the `GetModelStatusResponse` of a served version."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    served = answer.model_version_status.add()
    served.version = model.version
    served.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    served.status.SetInParent()
    return answer


def metadata(model: Model, name: str) -> Any:
    """Returns the `GetModelMetadataResponse` with the signatures."""
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = name
    answer.model_spec.version.value = model.version
    answer.metadata[SIGNATURES_FIELD].Pack(_signatures(model))
    return answer


def status_json(model: Model) -> dict[str, Any]:
    """Returns `status` as JSON of the REST API."""
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
    """Returns `metadata` as JSON of the REST API."""
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
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.definitions.items():
        signatures.signature_def[name].CopyFrom(definition)
    return signatures


def warm_up(model: Model) -> int:
    """Runs the recorded requests, as TensorFlow Serving does before it serves a version.

    Returns:
        How many ran; refused requests are skipped.
    """
    ran = 0
    for signature, inputs in recorded_requests(model):
        try:
            model.run(model.signature(signature), inputs)
            ran += 1
        except RequestError:
            continue
    return ran


def recorded_requests(model: Model) -> Iterator[tuple[str, Arrays]]:
    """Yields (signature, inputs) of each recorded Predict request; none without a warm-up file."""
    path = model.folder / EXTRA_FOLDER / WARMUP_FILE
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def check_keys(given: set[str], wanted: Mapping[str, InputSpec]) -> None:
    """Checks that a request has exactly the signature's inputs.

    Raises:
        RequestError: an input is missing or unknown.
    """
    if given != set(wanted):
        text = (
            f"expected the inputs {', '.join(sorted(wanted))}, not "
            f"{', '.join(quoted(name) for name in sorted(given)[:8]) or 'none'}"
        )
        # For example {"base64": ..} instead of {"b64": ..}.
        is_file = set(wanted) == {IMAGE_BYTES} and len(given) == 1
        raise invalid(text, f"a picture in JSON is {AS_JSON}" if is_file else "")


def check_shape(name: str, shape: tuple[int, ...], wanted: InputSpec) -> None:
    """Checks that a shape matches the signature.

    Raises:
        RequestError: it does not.
    """
    fits = len(shape) == len(wanted.shape) and all(
        size is None or size == given for given, size in zip(shape, wanted.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in wanted.shape)
        raise invalid(f"{name}: expected shape [{expected}], not {list(shape)[:8]}")


def check_range(name: str, smallest: int, largest: int, dtype: Any) -> None:
    """Checks that integers from `smallest` to `largest` fit into the NumPy integer type `dtype`.

    Raises:
        RequestError: they do not.
    """
    bounds = np.iinfo(dtype)
    if smallest < bounds.min or largest > bounds.max:
        raise invalid(f"{name}: expected values in [{bounds.min}, {bounds.max}]")


def check_rows(inputs: Mapping[str, Array], limits: Limits) -> int:
    """Returns the number of rows that all inputs share.

    Raises:
        RequestError: the inputs differ in length, are empty, or have too many rows.
    """
    counts = {name: value.shape[0] if value.ndim else 1 for name, value in inputs.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise invalid(f"expected inputs of the same length, not {counts}")
    if not 1 <= rows <= limits.max_request_rows:
        raise invalid(f"expected 1 to {limits.max_request_rows} pictures in a request, not {rows}")
    return rows


def check_pictures(inputs: Mapping[str, Array], limits: Limits) -> None:
    """Checks the headers of encoded pictures before anything is decoded.

    Raises:
        RequestError: one is not a JPEG, PNG or BMP, is truncated, too small or too large, or all
            together have too many pixels.
    """
    contents = inputs.get(IMAGE_BYTES)
    if contents is None:
        return
    pixels = 0
    for row, content in enumerate(contents.reshape(-1)):
        try:
            header = read_header(content, with_pnm=False)
        except BadPicture as error:
            raise invalid(f"picture {row}: {error}", picture_hint(content)) from None
        pixels += header.height * header.width
    if pixels > limits.max_pixels:
        raise invalid(
            f"the pictures have {pixels / 1e6:.0f} megapixels together, more than "
            f"{limits.max_pixels / 1e6:.0f}; send fewer at once"
        )


def is_string(spec: InputSpec) -> bool:
    """Returns True if an input holds bytes."""
    return spec.dtype == tf.string
