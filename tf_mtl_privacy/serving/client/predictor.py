"""What clients by REST and by gRPC have in common.

What a client's request can end with, each in one line.

Named after what happened, as the codes of gRPC are.

Tries a request again after transient failures, later each time, until a deadline.

What an address of a server may be, and how messages show it.
"""

from __future__ import annotations

import abc
import dataclasses
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import numpy as np

from tf_mtl_privacy.errors import RunError, UsageError


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


Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class Retries:
    """When a request is tried again.

    The wait before try k is drawn evenly from [0, min(longest, first * 2^k)], k = 0, 1, ..; so
    many clients that failed together do not come back together. Source: M. Brooker, "Exponential
    Backoff and Jitter", AWS Architecture Blog, 2015 ("full jitter").

    Attributes:
        most: tries after the first one, >= 0.
        first: bound of the first wait in seconds.
        longest: bound of any wait in seconds.
    """

    most: int = 5
    first: float = 0.1
    longest: float = 5.0

    def wait(self, number: int, asked: float, draw: Callable[[], float]) -> float:
        """Seconds before retry `number` (from 0), at least what the server `asked` for.

        Args:
            number: how many retries there were.
            asked: seconds, or 0.
            draw: gives a number in [0, 1).
        """
        return max(asked, draw() * min(self.longest, self.first * 2.0**number))

    def call(
        self,
        attempt: Callable[[float], Answer],
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> Answer:
        """Calls `attempt` until it succeeds, fails for good, or the time is over.

        Args:
            attempt: given the seconds that are left; raises `ClientError`.
            seconds: time for all tries and waits together, > 0.
            clock: tells the time in seconds.
            sleep: waits.
            draw: gives a number in [0, 1).

        Raises:
            DeadlineExceeded: no try succeeded in time; the text says what the last one failed of.
            ClientError: as `attempt` raised it.
        """
        end = clock() + seconds
        for number in range(self.most + 1):
            try:
                return attempt(max(end - clock(), 1e-3))
            except ClientError as error:
                if not error.transient or number == self.most:
                    raise
                pause = self.wait(number, error.retry_after, draw)
                if clock() + pause >= end:
                    raise DeadlineExceeded(
                        f"no success within {seconds:g} s and {number + 1} tries; the last one: "
                        f"{error}"
                    ) from error
            sleep(pause)
        raise AssertionError("unreachable")


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def without_password(server: str) -> str:
    """What was given for an address as messages may show it: without what stands before an @."""
    # Up to the last @, as a password may hold one that should have been written %40; and whatever
    # is wrong with the rest, as it is shown where it is refused.
    return re.sub(r"^([a-z]+:[/\\]*)?.*@", r"\1", server, flags=re.IGNORECASE | re.DOTALL)


def address_and_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address that `check_server` passed -> that without name and password; both, or None."""
    parts = urlsplit(url)
    user, there, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    return address, (unquote(name), unquote(password)) if there else None


def check_server(server: str, model_name: str) -> None:
    """Whether an address and a name can be ones.

    Raises:
        UsageError: they cannot, or a password would go over a network for anybody to read.
    """
    shown = without_password(server)
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not _is_address(server, parts, port):
        raise UsageError(
            f"--server={shown}: expected http://HOST:PORT or grpc://HOST:PORT; for a proxy with a "
            "password https://NAME:PASSWORD@HOST, with %40, %2F, %3F, %23 for @ / ? #"
        )
    if "@" in parts.netloc and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            f"--server={shown}: a password over http can be read on its way; give https://"
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]+", model_name):
        raise UsageError(f"--model_name={model_name}: expected letters, digits, ., _ and - only")


def _is_address(server: str, parts: SplitResult, port: int | None) -> bool:
    # Blanks and control characters are dropped or kept by one library, and not by the next.
    if not parts.hostname or re.search(r"[\s\x00-\x1f\x7f\\?#]", server):
        return False
    if parts.scheme == "grpc":
        return port is not None and not parts.path.strip("/") and "@" not in server
    # What follows the first / is a path; an @ there was to be part of a password.
    return (
        parts.scheme in ("http", "https")
        and "@" not in parts.path
        and "@" not in (parts.netloc.rpartition("@")[0])
    )


Array = np.ndarray[Any, Any]
DEFAULT_SECONDS, DEFAULT_BATCH = 60.0, 32


class Predictor(abc.ABC):
    """Asks one model of one server; use as a context manager, or call `close`.

    Args:
        model_name: the model.
        version: its version; None for the newest.
        seconds: time that one request has, tries and waits together.
        retries: when it is tried again.
    """

    def __init__(
        self,
        model_name: str,
        version: int | None = None,
        *,
        seconds: float = DEFAULT_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        self.model_name, self.version = model_name, version
        self._seconds, self._retries = seconds, retries or Retries()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, inputs: Mapping[str, Array], signature: str = "") -> dict[str, Array]:
        """Asks for one batch in one request.

        Args:
            inputs: name -> `[B, ..]`: uint8 pixels, or an object array of bytes.
            signature: its name; empty for `serving_default`.

        Returns:
            Output name -> `[B, ..]`; strings as an object array of str.

        Raises:
            ClientError: there is no answer, see `errors`.
        """
        rows = {len(value) for value in inputs.values()}
        found = self._retries.call(lambda left: self._ask(inputs, signature, left), self._seconds)
        if {len(value) if value.ndim else 0 for value in found.values()} != rows:
            raise BadAnswer(f"{self}: the answer has not as many rows as the request")
        return found

    def predict_batches(
        self, inputs: Mapping[str, Array], signature: str = "", batch: int = DEFAULT_BATCH
    ) -> Iterator[dict[str, Array]]:
        """As `predict`, with at most `batch` rows in a request; yields the answers in order."""
        rows = max(len(value) for value in inputs.values())
        for start in range(0, rows, batch):
            yield self.predict(
                {name: value[start : start + batch] for name, value in inputs.items()}, signature
            )

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.address} model {self.model_name}{version}"

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The server's address, for messages."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    @abc.abstractmethod
    def _ask(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        """One try of a request, within `left` seconds."""


def files(contents: list[bytes]) -> Array:
    """Picture files as a batch `[B]` for an input of bytes."""
    batch = np.empty(len(contents), dtype=object)
    batch[:] = contents
    return batch


def only(outputs: Mapping[str, Array], name: str) -> Array:
    """The output `name`, also where an answer of one output left its name out."""
    return outputs[name] if name in outputs else outputs[""]
