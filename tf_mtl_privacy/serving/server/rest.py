"""TensorFlow Serving's REST API: routes, request bodies, and JSON to and from arrays.

Source: TensorFlow Serving, "RESTful API": row format (`instances` -> `predictions`), column format
(`inputs` -> `outputs`), binary values as `{"b64": ..}`, outputs with names ending in `_bytes`.
There is no `:classify` and no `:regress`, which need signatures over `tf.Example`.
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

from tf_mtl_privacy.serving.server.errors import (
    Code,
    RequestError,
    base64_hint,
    body_hint,
    invalid,
    number_hint,
    quoted,
)
from tf_mtl_privacy.serving.server.limits import Limits, MemoryShare
from tf_mtl_privacy.serving.server.model import (
    Array,
    Arrays,
    InputSpec,
    Model,
    check_keys,
    check_range,
    is_string,
    metadata_json,
    status_json,
)
from tf_mtl_privacy.serving.server.service import CONTENT_TYPE, RequestTimer, Service

_MODEL, _VERSION = "/v1/models/{name}", "/v1/models/{name}/versions/{version}"


class Rest:
    """The routes of the API.

    Args:
        service: handles the requests.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        # One at a time: JSON takes many times its size while it is parsed or written.
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
        """Answers `:predict`, in row or column format."""
        service = self._service
        with RequestTimer(service.metrics, "rest") as timer, service.budget.share() as share:
            model = self._model(request.path_params)
            body = await read_body(request, self._limits, share)
            signature, inputs, row_format = await self.in_reader(self._read, model, body)
            timer.signature = signature
            outputs = await self.answer(service.submit(model, signature, inputs))
            text = await self.in_writer(write_outputs, outputs, row_format)
        return Response(text, media_type="application/json")

    async def status(self, request: Request) -> Response:
        """Returns the status of the served version."""
        return JSONResponse(status_json(self._model(request.path_params)))

    async def metadata(self, request: Request) -> Response:
        """Returns the model's signatures."""
        path = request.path_params
        return JSONResponse(metadata_json(self._model(path), path["name"]))

    async def metrics(self) -> Response:
        """Returns the Prometheus metrics."""
        return Response(self._service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def answer(self, future: Future[Arrays]) -> Arrays:
        """Waits for an answer, for at most `answer_seconds`."""
        async with asyncio.timeout(self._limits.answer_seconds):
            return await asyncio.wrap_future(future)

    async def in_reader(self, function: Any, *arguments: Any) -> Any:
        """Runs a function in the thread that parses requests."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def in_writer(self, function: Any, *arguments: Any) -> Any:
        """Runs a function in the thread that writes answers."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._reader.shutdown()
        self._writer.shutdown()

    def _model(self, path: Mapping[str, str]) -> Model:
        given = path.get("version")
        if given is not None and not (given.isascii() and given.isdecimal() and len(given) < 20):
            raise RequestError(Code.NOT_FOUND, f"version {given[:60]!r}: expected a number")
        version = None if given is None else int(given)
        return self._service.versions.find(path["name"], version)

    def _read(self, model: Model, body: bytes) -> tuple[str, Arrays, bool]:
        request = parse(body)
        signature = model.signature(signature_name(request))
        return signature, *read_inputs(request, model.inputs[signature], self._limits)


async def read_body(request: Request, limits: Limits, share: MemoryShare) -> bytes:
    """Reads the whole body.

    Raises:
        RequestError: it is too large or too slow, or the memory for requests is full.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_request_bytes:
        raise _too_large(limits)
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(limits.client_seconds):
            async for part in request.stream():
                if share.held + len(part) > limits.max_request_bytes:
                    raise _too_large(limits)
                share.take(len(part))
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            Code.SLOW_CLIENT, f"the request took more than {limits.client_seconds:g} s to arrive"
        ) from None
    except ClientDisconnect:
        raise RequestError(Code.INVALID, "the client has disconnected") from None
    except RequestError:
        # The traceback keeps this frame, and with it the bytes, until the answer is sent.
        parts.clear()
        raise
    return b"".join(parts)


def _too_large(limits: Limits) -> RequestError:
    size = f"{limits.max_request_bytes / 2**20:g} MiB"
    text = f"the request is larger than {size}; send fewer pictures"
    return RequestError(Code.TOO_LARGE, text)


def parse(body: bytes) -> dict[str, Any]:
    """Parses a request's body.

    Raises:
        RequestError: it is not JSON, or not an object.
    """
    try:
        parsed = json.loads(body)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        text = f"JSON Parse error: the body is not JSON ({place})"
        raise invalid(text, body_hint(body)) from None
    except (ValueError, RecursionError):
        text = "JSON Parse error: the body is not JSON that can be parsed"
        raise invalid(text, body_hint(body)) from None
    if not isinstance(parsed, dict):
        raise invalid(f"JSON Parse error: expected an object, not {quoted(parsed)}")
    return parsed


def signature_name(request: Mapping[str, Any]) -> str:
    """Returns the name of the requested signature; empty for the default one.

    Raises:
        RequestError: it is not a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"signature_name: expected a string, not {quoted(name)}")
    return name


def read_inputs(
    request: Mapping[str, Any], wanted: Mapping[str, InputSpec], limits: Limits
) -> tuple[Arrays, bool]:
    """Converts the inputs of a request.

    Args:
        request: the parsed body.
        wanted: the signature's inputs.
        limits: bounds.

    Returns:
        The inputs, and True if the request is in row format.

    Raises:
        RequestError: the values do not match the signature.
    """
    rows: Any = request.get("instances")
    columns: Any = request.get("inputs")
    if (rows is None) == (columns is None):
        raise invalid("expected either 'instances' (row format) or 'inputs' (column format)")
    if rows is not None:
        if not isinstance(rows, list):
            raise invalid(f"instances: expected a list, not {quoted(rows)}")
        if not 1 <= len(rows) <= limits.max_request_rows:
            raise invalid(f"instances: expected 1 to {limits.max_request_rows}, not {len(rows)}")
        columns = _columns(rows, wanted)
    elif not _named(columns):
        columns = {_only(wanted): columns}
    check_keys(set(columns), wanted)
    inputs = {name: _array(name, columns[name], wanted[name]) for name in wanted}
    return inputs, rows is not None


def write_outputs(outputs: Mapping[str, Array], row_format: bool) -> bytes:
    """Converts a signature's outputs to the body of an answer, in row or column format."""
    values = {name: _to_json(name, value) for name, value in outputs.items()}
    answer: Any = next(iter(values.values())) if len(values) == 1 else values
    if row_format and len(values) > 1:
        names = list(values)
        answer = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions" if row_format else "outputs": answer}).encode()


def _columns(rows: list[Any], wanted: Mapping[str, InputSpec]) -> dict[str, list[Any]]:
    if not any(_named(row) for row in rows):
        return {_only(wanted): rows}
    names = set(rows[0]) if isinstance(rows[0], dict) else set()
    if not all(_named(row) and set(row) == names for row in rows):
        raise invalid("instances: expected the same keys in every instance")
    check_keys(names, wanted)
    return {name: [row[name] for row in rows] for name in names}


def _only(wanted: Mapping[str, InputSpec]) -> str:
    if len(wanted) != 1:
        raise invalid(f"expected values by name: {', '.join(sorted(wanted))}")
    return next(iter(wanted))


def _named(value: Any) -> bool:
    """Returns True for an object of named values, False for encoded bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _array(name: str, value: Any, wanted: InputSpec) -> Array:
    try:
        if is_string(wanted):
            strings = np.array(_strings(name, value), dtype=object)
            if not all(isinstance(item, bytes) for item in strings.reshape(-1)):
                raise ValueError
            return strings
        return _numbers(name, _nested_numbers(name, value, wanted), wanted.dtype.as_numpy_dtype)
    except (ValueError, RecursionError):
        raise invalid(f"{name}: expected lists of equal length") from None


def _nested_numbers(name: str, value: Any, wanted: InputSpec) -> Array:
    """Converts nested lists. Strings are refused first: NumPy pads all items to the longest."""
    level = [value]
    while level and isinstance(level[0], list):
        if not all(isinstance(item, list) for item in level):
            raise ValueError
        level = list(itertools.chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float, bool}:
        if any(isinstance(item, list) for item in level):
            raise ValueError
        raise invalid(f"{name}: expected values of type {wanted.dtype.name}", number_hint(value))
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
        raise invalid(f"{name}: invalid base64 ({error})", base64_hint(value["b64"])) from None


def _numbers(name: str, values: Array, dtype: Any) -> Array:
    dtype = np.dtype(dtype)
    accepted = "iu" if dtype.kind in "iu" else "iuf" if dtype.kind == "f" else "b"
    if values.size and values.dtype.kind not in accepted:
        raise invalid(f"{name}: expected values of type {dtype.name}")
    if values.size and dtype.kind in "iu":
        check_range(name, values.min(), values.max(), dtype)
    return values.astype(dtype)


def _to_json(name: str, value: Array) -> Any:
    plain = value.tolist()
    return _texts(plain, name.endswith("_bytes")) if value.dtype == object else plain


def _texts(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, binary) for item in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace")
