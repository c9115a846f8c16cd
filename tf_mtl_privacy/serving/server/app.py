"""HTTP application: REST API, demo page, errors as JSON, security headers, and unread bodies."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tf_mtl_privacy.serving.server.demo_page import DemoPage
from tf_mtl_privacy.serving.server.errors import Code, RequestError
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.rest import Rest
from tf_mtl_privacy.serving.server.service import Service

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

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
# Times `max_request_bytes`.
_DISCARDED_BODIES = 4


def build_app(service: Service, host: str) -> tuple[FastAPI, Rest]:
    """Builds the application.

    Args:
        service: handles the requests.
        host: address the server is bound to. On a loopback address, requests with another host name
            are refused, because a page of another site could point its own name there.

    Returns:
        The application, and its REST API, which must be closed at the end.
    """
    # No API pages: they load scripts from other sites.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    rest = Rest(service)
    rest.add_to(app)
    DemoPage(service, rest).add_to(app)
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)
    if is_loopback(host):
        hosts = ["localhost", "127.0.0.1", "[::1]", "[", host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(DiscardUnreadBody, limits=service.limits)
    app.add_middleware(_AddHeaders)
    return app, rest


def is_loopback(host: str) -> bool:
    """Returns True if an address can only be reached from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DiscardUnreadBody:
    """ASGI middleware that reads and discards the rest of a body after a refused request.

    If a connection is closed with unread bytes, it is reset, and a client that is still sending
    loses the answer. So the answer is sent at once, with `Connection: close`, and the connection
    stays open until the body has arrived: at most four times `limits.max_request_bytes`, for at
    most `limits.client_seconds`. The discarded bytes are never parsed as another request.

    Args:
        app: the application.
        limits: size and time.
    """

    def __init__(self, app: Any, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answers a request."""
        started = complete = discards = False

        async def watched_receive() -> _Message:
            nonlocal started, complete
            started = True
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def watched_send(message: _Message) -> None:
            nonlocal discards
            if message["type"] == "http.response.start" and not complete:
                discards = True
                headers = [*message["headers"], (b"connection", b"close")]
                await send({**message, "headers": headers})
            elif discards and not message.get("more_body", False):
                await send({**message, "more_body": True})
                # A client that waits for 100 Continue and never got it does not send its body.
                if started or not _expects_continue(scope):
                    await self._discard(watched_receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        await self._app(scope, watched_receive, watched_send)

    async def _discard(self, receive: _Receive) -> None:
        left = _DISCARDED_BODIES * self._limits.max_request_bytes
        try:
            async with asyncio.timeout(self._limits.client_seconds):
                while left >= 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            pass


def _expects_continue(scope: _Message) -> bool:
    return any(k == b"expect" and v.lower() == b"100-continue" for k, v in scope["headers"])


class _AddHeaders:
    """ASGI middleware that adds `_HEADERS` to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        async def add(message: _Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, add)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.code is Code.EXHAUSTED else None
    return JSONResponse({"error": str(error)}, error.code.http, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path[:100]}: {error.detail}"
    return JSONResponse({"error": text}, error.status_code, error.headers)
