"""The HTTP application: REST API, page, errors as JSON, and headers that keep browsers strict.

Reads and drops what a refused request still sends, so that its sender sees the reason.

A connection that is closed while bytes are unread is reset, and a client that still sends loses the
answer that it had received.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tf_mtl_privacy.serving.server.demo_page import Page
from tf_mtl_privacy.serving.server.errors import Code, Refusal
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.rest import Rest
from tf_mtl_privacy.serving.server.service import Service

_Message = MutableMapping[str, Any]
_DROPPED_BODIES = 4


class Draining:
    """An ASGI application around another: where a body is not read, its end comes after the answer.

    The answer is sent at once, says that the connection closes, and the connection stays open until
    the body has come in: at most four times `limits.body_bytes` of it, for at most
    `limits.client_seconds`. What is not read must not be taken for the next request.

    Args:
        app: the application.
        limits: size and time.
    """

    def __init__(self, app: Any, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Answers a request."""
        asked = whole = lingers = False

        async def watched() -> _Message:
            nonlocal asked, whole
            asked = True
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def answer(message: _Message) -> None:
            nonlocal lingers
            if message["type"] == "http.response.start" and not whole:
                lingers = True
                headers = [*message["headers"], (b"connection", b"close")]
                await send({**message, "headers": headers})
            elif lingers and not message.get("more_body", False):
                await send({**message, "more_body": True})
                # Who waits to be asked for the body, and never was, does not send it.
                if asked or not _waits(scope):
                    await self._drain(watched)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        await self._app(scope, watched, answer)

    async def _drain(self, receive: Callable[[], Awaitable[_Message]]) -> None:
        left = _DROPPED_BODIES * self._limits.body_bytes
        try:
            async with asyncio.timeout(self._limits.client_seconds):
                while left >= 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            pass


def _waits(scope: _Message) -> bool:
    return any(k == b"expect" and v.lower() == b"100-continue" for k, v in scope["headers"])


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
