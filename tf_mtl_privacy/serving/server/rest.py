"""TensorFlow Serving's REST API.

Source: TensorFlow Serving, "RESTful API". There is no `:classify` and no `:regress`, which need
signatures over `tf.Example`.

Reads the body of a request within bounds of size and time.

JSON of TensorFlow Serving's REST API <-> arrays.

Source: TensorFlow Serving, "RESTful API": row format (`instances` -> `predictions`), column format
(`inputs` -> `outputs`), binary values as `{"b64": ..}`, outputs with names that end in `_bytes`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from tf_mtl_privacy.serving.server.batching import Outputs
from tf_mtl_privacy.serving.server.errors import (
    Code,
    Refusal,
    base64_hint,
    body_hint,
    invalid,
    number_hint,
    quoted,
    with_hint,
)
from tf_mtl_privacy.serving.server.limits import Limits, Share
from tf_mtl_privacy.serving.server.model import (
    Array,
    Model,
    Tensor,
    check_keys,
    check_range,
    is_string,
    metadata_json,
    status_json,
)
from tf_mtl_privacy.serving.server.service import CONTENT_TYPE, Measured, Service


async def read_body(request: Request, limits: Limits, share: Share) -> bytes:
    """The whole body.

    Raises:
        Refusal: it is too large, comes too slowly, or the memory for requests is full.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(limits.client_seconds):
            async for part in request.stream():
                if share.held + len(part) > limits.body_bytes:
                    raise _too_large(limits)
                share.take(len(part))
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            Code.SLOW_CLIENT, f"the request took more than {limits.client_seconds:g} s to come in"
        ) from None
    except ClientDisconnect:
        raise Refusal(Code.INVALID, "the client has gone") from None
    except Refusal:
        # Its traceback keeps this frame, and the bytes with it, until the answer has gone.
        parts.clear()
        raise
    return b"".join(parts)


def _too_large(limits: Limits) -> Refusal:
    size = f"{limits.body_bytes / 2**20:g} MiB"
    return Refusal(Code.TOO_LARGE, f"the request is larger than {size}; send fewer pictures")


def parse(body: bytes) -> dict[str, Any]:
    """A request's body as an object.

    Raises:
        Refusal: it is not JSON, or not an object.
    """
    try:
        found = json.loads(body)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        text = f"JSON Parse error: the body is not JSON ({place})"
        raise invalid(with_hint(text, body_hint(body))) from None
    except (ValueError, RecursionError):
        text = "JSON Parse error: the body is not JSON that can be read"
        raise invalid(with_hint(text, body_hint(body))) from None
    if not isinstance(found, dict):
        raise invalid(f"JSON Parse error: expected an object, not {quoted(found)}")
    return found


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names; empty for the default one.

    Raises:
        Refusal: it is not a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"signature_name: expected a string, not {quoted(name)}")
    return name


def read_inputs(
    request: Mapping[str, Any], wanted: Mapping[str, Tensor], limits: Limits
) -> tuple[dict[str, Array], bool]:
    """The inputs of a request, and whether it is in row format.

    Args:
        request: the body.
        wanted: the signature's inputs.
        limits: bounds.

    Raises:
        Refusal: the values are not what the signature takes.
    """
    rows: Any = request.get("instances")
    columns: Any = request.get("inputs")
    if (rows is None) == (columns is None):
        raise invalid("expected either 'instances' (row format) or 'inputs' (column format)")
    if rows is not None:
        if not isinstance(rows, list):
            raise invalid(f"instances: expected a list, not {quoted(rows)}")
        if not 1 <= len(rows) <= limits.rows:
            raise invalid(f"instances: expected 1 to {limits.rows} of them, not {len(rows)}")
        columns = _columns(rows, wanted)
    elif not _named(columns):
        columns = {_only(wanted): columns}
    check_keys(set(columns), wanted)
    found = {name: _array(name, columns[name], wanted[name]) for name in wanted}
    return found, rows is not None


def write_outputs(outputs: Mapping[str, Array], rows: bool) -> bytes:
    """The body of an answer.

    Args:
        outputs: of the signature.
        rows: whether in row format.
    """
    values = {name: _plain(name, value) for name, value in outputs.items()}
    answer: Any = next(iter(values.values())) if len(values) == 1 else values
    if rows and len(values) > 1:
        names = list(values)
        answer = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions" if rows else "outputs": answer}).encode()


def _columns(rows: list[Any], wanted: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    if not any(_named(row) for row in rows):
        return {_only(wanted): rows}
    names = set(rows[0]) if isinstance(rows[0], dict) else set()
    if not all(_named(row) and set(row) == names for row in rows):
        raise invalid("instances: expected the same keys in all of them")
    check_keys(names, wanted)
    return {name: [row[name] for row in rows] for name in names}


def _only(wanted: Mapping[str, Tensor]) -> str:
    if len(wanted) != 1:
        raise invalid(f"expected values by name: {', '.join(sorted(wanted))}")
    return next(iter(wanted))


def _named(value: Any) -> bool:
    """Whether it is an object of named values, and not one that stands for bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _array(name: str, value: Any, wanted: Tensor) -> Array:
    try:
        if is_string(wanted):
            found = np.array(_strings(name, value), dtype=object)
            if not all(isinstance(item, bytes) for item in found.reshape(-1)):
                raise ValueError
            return found
        return _numbers(name, _plain_numbers(name, value, wanted), wanted.dtype.as_numpy_dtype)
    except (ValueError, RecursionError):
        raise invalid(f"{name}: expected lists of equal length") from None


def _plain_numbers(name: str, value: Any, wanted: Tensor) -> Array:
    """Numbers of nested lists. Of one long text among them NumPy would make all as long."""
    level = [value]
    while level and isinstance(level[0], list):
        if not all(isinstance(item, list) for item in level):
            raise ValueError
        level = list(itertools.chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float, bool}:
        if any(isinstance(item, list) for item in level):
            raise ValueError
        text = f"{name}: expected values of type {wanted.dtype.name}"
        raise invalid(with_hint(text, number_hint(value)))
    return np.array(value)


def _strings(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(name, item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise invalid(f'{name}: expected {{"b64": ".."}} or a string, not {quoted(value)}')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        text = f"{name}: invalid base64 ({error})"
        raise invalid(with_hint(text, base64_hint(value["b64"]))) from None


def _numbers(name: str, found: Array, kind: Any) -> Array:
    kind = np.dtype(kind)
    fits = "iu" if kind.kind in "iu" else "iuf" if kind.kind == "f" else "b"
    if found.size and found.dtype.kind not in fits:
        raise invalid(f"{name}: expected values of type {kind.name}")
    if found.size and kind.kind in "iu":
        check_range(name, found.min(), found.max(), kind)
    return found.astype(kind)


def _plain(name: str, value: Array) -> Any:
    plain = value.tolist()
    return _texts(plain, name.endswith("_bytes")) if value.dtype == object else plain


def _texts(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, binary) for item in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace")


_MODEL, _VERSION = "/v1/models/{name}", "/v1/models/{name}/versions/{version}"


class Rest:
    """The routes, over a service.

    Args:
        service: what answers.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        # One at a time each: a body of JSON takes many times its size while it is read.
        self._reader, self._writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application."""
        for path in (_MODEL, _VERSION):
            app.add_api_route(f"{path}:predict", self.predict, methods=["POST"])
            app.add_api_route(f"{path}/metadata", self.metadata, methods=["GET"])
            app.add_api_route(path, self.status, methods=["GET"])
        for path in ("/monitoring/prometheus/metrics", "/metrics"):
            app.add_api_route(path, self.metrics, methods=["GET"])

    async def predict(self, request: Request) -> Response:
        """`:predict`, in row and column format."""
        service = self._service
        with Measured(service.metrics, "rest") as measured, service.budget.share() as share:
            model = self._model(request.path_params)
            body = await read_body(request, self._limits, share)
            signature, inputs, rows = await self.in_reader(self._read, model, body)
            measured.signature = signature
            outputs = await self.answer(service.submit(model, signature, inputs))
            text = await self.in_writer(write_outputs, outputs, rows)
        return Response(text, media_type="application/json")

    async def status(self, request: Request) -> Response:
        """Which version is served."""
        return JSONResponse(status_json(self._model(request.path_params)))

    async def metadata(self, request: Request) -> Response:
        """The signatures of the model."""
        return JSONResponse(metadata_json(self._model(request.path_params), _name(request)))

    async def metrics(self) -> Response:
        """Counters for Prometheus."""
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def answer(self, future: Future[Outputs]) -> Outputs:
        """Waits for an answer, no longer than the limit."""
        async with asyncio.timeout(self._limits.answer_seconds):
            return await asyncio.wrap_future(future)

    async def in_reader(self, function: Any, *arguments: Any) -> Any:
        """Runs what reads a request in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def in_writer(self, function: Any, *arguments: Any) -> Any:
        """Runs what writes an answer in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._reader.shutdown()
        self._writer.shutdown()

    def _model(self, path: Mapping[str, str]) -> Model:
        given = path.get("version")
        if given is not None and not (given.isascii() and given.isdecimal() and len(given) < 20):
            raise Refusal(Code.NOT_FOUND, f"version {given[:60]!r}: expected a number")
        version = None if given is None else int(given)
        return self._service.versions.find(path["name"], version)

    def _read(self, model: Model, body: bytes) -> tuple[str, dict[str, Array], bool]:
        request = parse(body)
        signature = model.signature(signature_name(request))
        inputs, rows = read_inputs(request, model.inputs[signature], self._limits)
        return signature, inputs, rows


def _name(request: Request) -> str:
    return request.path_params["name"]
