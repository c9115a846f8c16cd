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
