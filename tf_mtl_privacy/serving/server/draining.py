"""Reads and drops what a refused request still sends, so that its sender sees the reason.

A connection that is closed while bytes are unread is reset, and a client that still sends loses the
answer that it had received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tf_mtl_privacy.serving.server.limits import Limits

_Message = MutableMapping[str, Any]
_DROPPED_BODIES = 4


class Draining:
    """An ASGI application around another: an answer starts when the request's body is in.

    What is dropped is bounded: four times `limits.body_bytes` beyond what was read, and
    `limits.client_seconds` after the request's header. Where more is to come, the connection ends
    with the answer: the rest must not be taken for the next request.

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
        end = asyncio.get_running_loop().time() + self._limits.client_seconds
        whole = False

        async def watched() -> _Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def drain() -> None:
            # Who waits to be asked for the body does not have to send it.
            if any(name == b"expect" for name, _ in scope["headers"]):
                return
            left = _DROPPED_BODIES * self._limits.body_bytes
            while not whole and left >= 0:
                left -= len((await watched()).get("body", b""))

        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start" and not whole:
                try:
                    async with asyncio.timeout_at(end):
                        await drain()
                except TimeoutError:
                    pass
                if not whole:
                    headers = [*message["headers"], (b"connection", b"close")]
                    message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, watched, answer)
