"""What a client's request can end with, each in one line.

Named after what happened, as the codes of gRPC are.
"""

from __future__ import annotations

from tf_mtl_privacy.errors import RunError


class ClientError(RunError):
    """A request to a server that was not answered with what was asked for.

    Attributes:
        transient: whether the same request may well succeed a little later.
        retry_after: seconds that the server asked to wait; 0 where it asked for none.
    """

    transient = False

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Refused(ClientError):  # noqa: N818
    """The server refuses what the request holds (HTTP 4xx, INVALID_ARGUMENT)."""


class NotFound(ClientError):  # noqa: N818
    """The server has no such model or version."""


class Overloaded(ClientError):  # noqa: N818
    """The server has too much to do (HTTP 429, RESOURCE_EXHAUSTED)."""

    transient = True


class Unavailable(ClientError):  # noqa: N818
    """There is no server, or the connection broke (HTTP 502 and 503, UNAVAILABLE)."""

    transient = True


class DeadlineExceeded(ClientError):  # noqa: N818
    """The time that was given is over."""


class BadAnswer(ClientError):  # noqa: N818
    """The server failed (HTTP 5xx, INTERNAL), or its answer is not of the promised form."""
