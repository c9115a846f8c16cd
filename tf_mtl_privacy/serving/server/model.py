"""One loaded version of a SavedModel: its signatures, what they take, and running them.

Replays a version's recorded requests before it is served, as TensorFlow Serving does.

What a served version is and takes, as TensorFlow Serving tells it: protocol buffers and JSON.

Checks that a request holds what the signature takes, before the model sees any of it.
"""

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
    Refusal,
    invalid,
    picture_hint,
    quoted,
    with_hint,
)
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving_signature import EXTRA_FOLDER, IMAGE_BYTES, WARMUP_FILE

Array = np.ndarray[Any, Any]


class Tensor(NamedTuple):
    """An input or output of a signature; `shape` has None for any length."""

    dtype: Any
    shape: tuple[int | None, ...]


class Model:
    """A version of a model.

    Args:
        folder: the version's folder, with `saved_model.pb`; its name is the version's number.

    Raises:
        RunError: it cannot be loaded, or has no signature.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, int(folder.name)
        try:
            # Held: its variables live as long as it does.
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
        """`name`, or the default one where it is empty.

        Raises:
            Refusal: there is none of that name.
        """
        name = name or "serving_default"
        if name not in self._functions:
            known = ", ".join(sorted(self._functions))
            raise invalid(
                f"Serving signature name: {quoted(name)} not found in signature def; there are "
                f"{known}"
            )
        return name

    def outputs(self, signature: str) -> set[str]:
        """Names of a signature's outputs."""
        return set(self._functions[signature].structured_outputs)

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs a signature.

        Raises:
            Refusal: the model refuses what the inputs hold.
        """
        try:
            found = self._functions[signature](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
        except tf.errors.InvalidArgumentError as error:
            raise invalid(model_words(error.message)) from None
        return {name: value.numpy() for name, value in found.items()}

    def extra(self, name: str) -> Any:
        """A JSON file of `assets.extra`, or None where there is none that can be read."""
        try:
            return json.loads((self.folder / EXTRA_FOLDER / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def model_words(message: str) -> str:
    """What TensorFlow says of a refused input, without the names of nodes and where they stand."""
    text = re.sub(r"\{\{[^}]*\}\}\s*|\[\[.*?\]\]|\[Op:\w*\].*", " ", message)
    text = re.sub(r"^.*?assertion failed:\s*\[?|\bDetected at node.*", "", text, flags=re.DOTALL)
    first = next((line.strip(" []:") for line in text.split("\n") if line.strip(" []:")), "")
    words = re.sub(r"\s+", " ", first.replace("] [", " "))
    return words[:200] or "the model refuses this input"


def _inputs(function: Any) -> dict[str, Tensor]:
    _, named = function.structured_input_signature
    return {
        name: Tensor(
            spec.dtype, (None,) if spec.shape.rank is None else tuple(spec.shape.as_list())
        )
        for name, spec in named.items()
    }


def _definitions(folder: Path) -> dict[str, Any]:
    """Signature -> `SignatureDef`, as the file has them."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = next(graph for graph in parsed.meta_graphs if "serve" in graph.meta_info_def.tags)
    return {
        name: definition
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    }


def recorded(model: Model) -> Iterator[tuple[str, dict[str, Array]]]:
    """(signature, inputs) of each recorded Predict request; none where there is no such file."""
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


def replay(model: Model) -> int:
    """Runs the recorded requests; returns how many ran. One that is refused is passed over."""
    ran = 0
    for signature, inputs in recorded(model):
        try:
            model.run(model.signature(signature), inputs)
            ran += 1
        except Refusal:
            continue
    return ran


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


def check_keys(given: set[str], wanted: Mapping[str, Tensor]) -> None:
    """Checks that exactly the wanted inputs are there.

    Raises:
        Refusal: one is missing, or there is one too many.
    """
    if given != set(wanted):
        text = (
            f"expected the inputs {', '.join(sorted(wanted))}, not "
            f"{', '.join(quoted(name) for name in sorted(given)[:8]) or 'none'}"
        )
        # Such as {"base64": ..} for {"b64": ..}.
        is_file = set(wanted) == {IMAGE_BYTES} and len(given) == 1
        raise invalid(with_hint(text, f"a picture in JSON is {AS_JSON}" if is_file else ""))


def check_shape(name: str, shape: tuple[int, ...], wanted: Tensor) -> None:
    """Checks that a shape is one that the signature takes.

    Raises:
        Refusal: it is not.
    """
    fits = len(shape) == len(wanted.shape) and all(
        size is None or size == found for found, size in zip(shape, wanted.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in wanted.shape)
        raise invalid(f"{name}: expected shape [{expected}], not {list(shape)[:8]}")


def check_range(name: str, least: int, most: int, kind: Any) -> None:
    """Checks that whole numbers from `least` to `most` fit into the NumPy integer type `kind`.

    Raises:
        Refusal: they do not.
    """
    bounds = np.iinfo(kind)
    if least < bounds.min or most > bounds.max:
        raise invalid(f"{name}: expected values in [{bounds.min}, {bounds.max}]")


def check_rows(inputs: Mapping[str, Array], limits: Limits) -> int:
    """Returns the number of rows that all inputs share.

    Raises:
        Refusal: they differ, there is none, or there are too many.
    """
    counts = {name: value.shape[0] if value.ndim else 1 for name, value in inputs.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise invalid(f"inputs of different length: {counts}")
    if not 1 <= rows <= limits.rows:
        raise invalid(f"expected 1 to {limits.rows} pictures in a request, not {rows}")
    return rows


def check_pictures(inputs: Mapping[str, Array], limits: Limits) -> None:
    """Checks by their headers that encoded pictures may be decoded.

    Raises:
        Refusal: one is not a JPEG, PNG or BMP, is cut short, too small or too large, or all of
            them together have too many pixels.
    """
    contents = inputs.get(IMAGE_BYTES)
    if contents is None:
        return
    pixels = 0
    for row, content in enumerate(contents.reshape(-1)):
        try:
            header = read_header(content, with_pnm=False)
        except BadPicture as error:
            text = with_hint(f"picture {row}: {error}", picture_hint(content))
            raise invalid(text) from None
        pixels += header.height * header.width
    if pixels > limits.pixels:
        raise invalid(
            f"the pictures have {pixels / 1e6:.0f} megapixels together, more than "
            f"{limits.pixels / 1e6:.0f}; send fewer at once"
        )


def is_string(tensor: Tensor) -> bool:
    """Returns True if a tensor holds bytes."""
    return tensor.dtype == tf.string
