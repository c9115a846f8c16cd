"""Reads the body of a request within bounds of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from tf_mtl_privacy.serving.server.budget import Share
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.refusal import Code, Refusal


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
