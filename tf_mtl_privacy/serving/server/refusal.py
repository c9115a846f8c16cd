"""What a request is refused with: one line, and its code in HTTP and in gRPC."""

from __future__ import annotations

import enum


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
