"""The web page at `/`, its files, and what it asks the server for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tf_mtl_privacy.contract import DEFAULT_SIGNATURE, IMAGE_BYTES, IMAGES
from tf_mtl_privacy.serving.server.batching import Outputs
from tf_mtl_privacy.serving.server.bodies import read_body
from tf_mtl_privacy.serving.server.looking import (
    attributes,
    card,
    decoded_bytes,
    framed,
    picture_signatures,
    pictures,
    reduced,
)
from tf_mtl_privacy.serving.server.model import Array, Model
from tf_mtl_privacy.serving.server.refusal import invalid
from tf_mtl_privacy.serving.server.rest import Rest
from tf_mtl_privacy.serving.server.service import Measured, Service

_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html"),
    "/static/app.js": ("app.js", "text/javascript"),
    "/static/page.css": ("page.css", "text/css"),
}


class Page:
    """The routes of the page, over a service.

    Args:
        service: what answers.
        rest: whose threads and memory it shares.
    """

    def __init__(self, service: Service, rest: Rest) -> None:
        self._service, self._rest = service, rest

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application."""
        for path, (name, kind) in _FILES.items():
            app.add_api_route(path, _file(name, kind), methods=["GET", "HEAD"])
        app.add_api_route("/page/card", self.card, methods=["GET"])
        app.add_api_route("/page/picture", self.picture, methods=["POST"])

    async def card(self) -> Response:
        """What is served, and the summary of its privacy card."""
        versions = self._service.versions
        return JSONResponse(card(versions.newest, versions.name))

    async def picture(self, request: Request) -> Response:
        """Everything that the page shows of a photo, which is the body."""
        rest, budget = self._rest, self._service.budget
        with Measured(self._service.metrics, "page"), budget.share() as share:
            model = self._service.versions.newest
            content = await read_body(request, self._service.limits, share)
            asked = self._ask(model, DEFAULT_SIGNATURE, IMAGE_BYTES, _one(content))
            found = attributes(model, await rest.answer(asked))
            # Pixels of a photo can be a thousand times its file: they neither wait for the model
            # nor go to it.
            with budget.share() as photo:
                photo.take(decoded_bytes(content))
                seen = await rest.in_reader(reduced, model, content)
            sent, outputs = framed(model, seen), {}
            for name in picture_signatures(model):
                outputs[name] = await rest.answer(self._ask(model, name, IMAGES, sent))
            shown = await rest.in_writer(pictures, seen, outputs)
        return JSONResponse({"attributes": found, "pictures": shown})

    def _ask(self, model: Model, signature: str, key: str, value: Array) -> Future[Outputs]:
        if set(model.inputs.get(signature, ())) != {key}:
            raise invalid(f"the model has no signature {signature} that takes {key}")
        return self._service.submit(model, signature, {key: value})


def _one(content: bytes) -> Array:
    """A batch of one file."""
    batch = np.empty(1, dtype=object)
    batch[0] = content
    return batch


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = (_FOLDER / name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer
