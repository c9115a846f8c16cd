"""TensorFlow Serving's REST API.

Source: TensorFlow Serving, "RESTful API". There is no `:classify` and no `:regress`, which need
signatures over `tf.Example`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tf_mtl_privacy.serving.server import rest_json
from tf_mtl_privacy.serving.server.batching import Outputs
from tf_mtl_privacy.serving.server.bodies import read_body
from tf_mtl_privacy.serving.server.metrics import CONTENT_TYPE
from tf_mtl_privacy.serving.server.model import Array, Model
from tf_mtl_privacy.serving.server.refusal import Code, Refusal
from tf_mtl_privacy.serving.server.service import Measured, Service
from tf_mtl_privacy.serving.server.specs import metadata_json, status_json

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
            text = await self.in_writer(rest_json.write_outputs, outputs, rows)
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
        request = rest_json.parse(body)
        signature = model.signature(rest_json.signature_name(request))
        inputs, rows = rest_json.read_inputs(request, model.inputs[signature], self._limits)
        return signature, inputs, rows


def _name(request: Request) -> str:
    return request.path_params["name"]
