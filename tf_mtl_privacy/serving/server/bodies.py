"""Reads the body of a request within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.refusal import Code, Refusal


class Share:
    """Bytes that one request holds of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    def take(self, count: int) -> None:
        """Holds `count` bytes more.

        Raises:
            Refusal: the budget has not as many left.
        """
        if self._budget.used + count > self._budget.total:
            raise Refusal(
                Code.EXHAUSTED,
                "other requests fill the memory for requests; try again a little later",
            )
        self._budget.used += count
        self.held += count


class Budget:
    """Bytes of all requests together; used from the event loop only."""

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share that is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.used -= share.held


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
                share.take(len(part))
                if share.held > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            Code.SLOW_CLIENT, f"the request took more than {limits.client_seconds:g} s to come in"
        ) from None
    except ClientDisconnect:
        raise Refusal(Code.INVALID, "the client has gone") from None
    return b"".join(parts)


def _too_large(limits: Limits) -> Refusal:
    size = f"{limits.body_bytes / 2**20:g} MiB"
    return Refusal(Code.TOO_LARGE, f"the request is larger than {size}; send fewer pictures")
