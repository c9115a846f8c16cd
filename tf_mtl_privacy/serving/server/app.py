"""The HTTP application: REST API, page, errors as JSON, and headers that keep browsers strict."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tf_mtl_privacy.serving.server.draining import Draining
from tf_mtl_privacy.serving.server.page import Page
from tf_mtl_privacy.serving.server.refusal import Code, Refusal
from tf_mtl_privacy.serving.server.rest import Rest
from tf_mtl_privacy.serving.server.service import Service

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def build_app(service: Service, host: str) -> tuple[FastAPI, Rest]:
    """The application, and the part of it that has to be closed at the end.

    Args:
        service: what answers.
        host: address that the server is bound to. On a loopback address, requests for other hosts'
            names are refused: a page of another site could point its own name there.
    """
    # No pages about the interface: they load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    rest = Rest(service)
    rest.add_to(app)
    Page(service, rest).add_to(app)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    if is_loopback(host):
        hosts = ["localhost", "127.0.0.1", "[::1]", "[", host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Draining, limits=service.limits)
    app.add_middleware(_Headers)
    return app, rest


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Headers:
    """Adds the headers to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, add)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {"retry-after": "1"} if error.code is Code.EXHAUSTED else None
    return JSONResponse({"error": str(error)}, error.code.http, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path[:100]}: {error.detail}"
    return JSONResponse({"error": told}, error.status_code, error.headers)
