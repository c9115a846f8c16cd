"""Says what a client probably meant where a picture was sent in a way that is not taken.

What a request is refused with: one line, and its code in HTTP and in gRPC.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from typing import Any


class Code(enum.Enum):
    """Why a request is refused: (status of HTTP, name of the status of gRPC)."""

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
        """Status of HTTP."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """Name of a member of `grpc.StatusCode`."""
        return self.value[1]


class Refusal(Exception):  # noqa: N818 (an answer, not a failure)
    """A request that gets no prediction; the text is what the client is told."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def invalid(text: str) -> Refusal:
    """A refusal of what the request holds."""
    return Refusal(Code.INVALID, text)


def quoted(value: object) -> str:
    """What a client sent, for a message about it: at most 60 characters, without line breaks."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# What a picture is in a request over REST.
AS_JSON = '{"b64": "<base64 of the file>"}'
_BODY = '{"instances": [' + AS_JSON + "]}"
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"RIFF")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_DATA_URL = re.compile(rb"data:[\w/+.-]*;base64,", re.IGNORECASE)
_NAME = re.compile(rb"(https?|file)://\S+|[^\x00-\x1f]{1,250}\.(jpe?g|png|bmp)", re.IGNORECASE)


def picture_hint(content: bytes) -> str:
    """Returns what to send instead of bytes that are no picture, or an empty string.

    Args:
        content: what was sent as a picture file.
    """
    if _DATA_URL.match(content):
        return f"it is a data: URL; in JSON send {AS_JSON} with the part after the comma only"
    start = content[:64]
    if _BASE64.fullmatch(start.rstrip()) and _decoded(start).startswith(_STARTS):
        return f"it is base64 text; in JSON send {AS_JSON}, over gRPC the file's bytes"
    if len(content) < 300 and _NAME.fullmatch(content):
        return "it is a name; send the file's content, the server opens no files and no addresses"
    return ""


def base64_hint(text: str) -> str:
    """Returns why a text is not the base64 that is taken, where the reason is a usual one."""
    if _DATA_URL.match(text[:100].encode("ascii", "replace")):
        return "leave out what stands before the comma of a data: URL"
    if any(character.isspace() for character in text):
        return "send it without line breaks and blanks"
    if "-" in text or "_" in text:
        return "send the usual alphabet with + and /, not the one for URLs"
    return ""


def body_hint(body: bytes) -> str:
    """Returns what to send instead of a body that is not JSON, or an empty string."""
    if body.startswith(_STARTS):
        return f"it is a picture; send {_BODY}"
    if body.startswith(b"--") and b"form-data" in body[:500].lower():
        return f"it is a form; send {_BODY}"
    return ""


def number_hint(value: Any) -> str:
    """Returns what to do with a picture file that was sent where pixels are expected."""
    while isinstance(value, list) and value:
        value = value[0]
    is_file = isinstance(value, dict) and set(value) == {"b64"}
    if is_file or (isinstance(value, str) and len(value) > 100):
        return "picture files go to the signature serving_default"
    return ""


def with_hint(text: str, hint: str) -> str:
    """Returns the text, followed by the hint where there is one."""
    return f"{text}: {hint}" if hint else text


def _decoded(start: bytes) -> bytes:
    whole = start[: len(start) // 4 * 4].rstrip(b"=")
    try:
        return base64.b64decode(whole[: len(whole) // 4 * 4], altchars=b"-_")
    except binascii.Error:
        return b""
