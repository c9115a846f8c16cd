"""Request errors: a one-line message, its HTTP and gRPC codes, and hints for common mistakes."""

from __future__ import annotations

import base64
import binascii
import enum
import re
from typing import Any


class Code(enum.Enum):
    """Reasons for an error: (HTTP status, name of the gRPC status)."""

    INVALID = (400, "INVALID_ARGUMENT")
    NOT_FOUND = (404, "NOT_FOUND")
    SLOW_CLIENT = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "INVALID_ARGUMENT")
    EXHAUSTED = (429, "RESOURCE_EXHAUSTED")
    INTERNAL = (500, "INTERNAL")
    UNAVAILABLE = (503, "UNAVAILABLE")
    TIMEOUT = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """Name of a member of `grpc.StatusCode`."""
        return self.value[1]


class RequestError(Exception):
    """A request that gets no prediction; its text is sent to the client."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def invalid(text: str, hint: str = "") -> RequestError:
    """Returns the error for a request with invalid content.

    Args:
        text: one line.
        hint: remedy, added after a colon if not empty.
    """
    return RequestError(Code.INVALID, f"{text}: {hint}" if hint else text)


def as_request_error(error: BaseException) -> RequestError:
    """Converts any exception to the error that the client sees; internals are not revealed."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, TimeoutError):
        return RequestError(Code.TIMEOUT, "the answer took too long; try again later")
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return RequestError(Code.EXHAUSTED, "not enough memory for this request; send less at once")
    return RequestError(Code.INTERNAL, f"internal error ({type(error).__name__})")


def quoted(value: object) -> str:
    """Quotes a client's value for a message: at most 60 characters, no line breaks."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# A picture in a REST request.
AS_JSON = '{"b64": "<base64 of the file>"}'
_BODY = '{"instances": [' + AS_JSON + "]}"
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"RIFF")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_DATA_URL = re.compile(rb"data:[\w/+.-]*;base64,", re.IGNORECASE)
_NAME = re.compile(rb"(https?|file)://\S+|[^\x00-\x1f]{1,250}\.(jpe?g|png|bmp)", re.IGNORECASE)


def picture_hint(content: bytes) -> str:
    """Returns the remedy for bytes that are not a picture, or an empty string.

    Args:
        content: the bytes sent as a picture file.
    """
    if _DATA_URL.match(content):
        return f"it is a data: URL; in JSON send {AS_JSON} with only the part after the comma"
    start = content[:64]
    if _BASE64.fullmatch(start.rstrip()) and _decoded(start).startswith(_STARTS):
        return f"it is base64 text; in JSON send {AS_JSON}, over gRPC the file's bytes"
    if len(content) < 300 and _NAME.fullmatch(content):
        return "it is a name; send the file's content, the server opens no files and no URLs"
    return ""


def base64_hint(text: str) -> str:
    """Returns the remedy for a common kind of invalid base64, or an empty string."""
    if _DATA_URL.match(text[:100].encode("ascii", "replace")):
        return "leave out everything up to the comma of a data: URL"
    if any(character.isspace() for character in text):
        return "send it without line breaks and spaces"
    if "-" in text or "_" in text:
        return "use the standard alphabet with + and /, not the URL-safe one"
    return ""


def body_hint(body: bytes) -> str:
    """Returns the remedy for a body that is not JSON, or an empty string."""
    if body.startswith(_STARTS):
        return f"it is a picture; send {_BODY}"
    if body.startswith(b"--") and b"form-data" in body[:500].lower():
        return f"it is a form; send {_BODY}"
    return ""


def number_hint(value: Any) -> str:
    """Returns the remedy for a picture file sent instead of pixels, or an empty string."""
    while isinstance(value, list) and value:
        value = value[0]
    is_file = isinstance(value, dict) and set(value) == {"b64"}
    if is_file or (isinstance(value, str) and len(value) > 100):
        return "send picture files to the signature serving_default"
    return ""


def _decoded(start: bytes) -> bytes:
    whole = start[: len(start) // 4 * 4].rstrip(b"=")
    try:
        return base64.b64decode(whole[: len(whole) // 4 * 4], altchars=b"-_")
    except binascii.Error:
        return b""
