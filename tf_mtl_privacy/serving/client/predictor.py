"""The client shared by REST and gRPC: predictions, retries, errors, and server addresses."""

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

Array = np.ndarray[Any, Any]
DEFAULT_SECONDS, DEFAULT_BATCH = 60.0, 32
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
Answer = TypeVar("Answer")


class Predictor(abc.ABC):
    """Client of one model on one server; use it as a context manager, or call `close`.

    Args:
        model_name: name of the model.
        version: its version; None for the newest.
        seconds: time for one request, with all retries and delays.
        retries: backoff after transient errors.
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
        """Sends one batch in one request.

        Args:
            inputs: name -> `[B, ..]`: uint8 pixels, or an object array of bytes.
            signature: its name; empty for `serving_default`.

        Returns:
            Output name -> `[B, ..]`; strings as an object array of str.

        Raises:
            ClientError: the request got no valid answer; see its subclasses.
        """
        rows = {len(value) for value in inputs.values()}
        outputs = self._retries.call(
            lambda left: self._send(inputs, signature, left), self._seconds
        )
        if {len(value) if value.ndim else 0 for value in outputs.values()} != rows:
            raise BadAnswer(f"{self}: the answer and the request differ in their number of rows")
        return outputs

    def predict_batches(
        self, inputs: Mapping[str, Array], signature: str = "", batch: int = DEFAULT_BATCH
    ) -> Iterator[dict[str, Array]]:
        """Splits the inputs into requests of `batch` rows; yields the answers in order."""
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
        """The server's URL, for messages."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    @abc.abstractmethod
    def _send(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        """Sends a request once, with a timeout of `left` seconds."""


def files(contents: list[bytes]) -> Array:
    """Returns picture files as a batch `[B]` for a string input."""
    batch = np.empty(len(contents), dtype=object)
    batch[:] = contents
    return batch


def only(outputs: Mapping[str, Array], name: str) -> Array:
    """Returns the output `name`, which REST leaves unnamed if it is the only one."""
    return outputs[name] if name in outputs else outputs[""]


def one_line(text: object) -> str:
    """Shortens a server's message to one line of at most 300 characters."""
    return " ".join(str(text or "").split())[:300] or "no reason given"


@dataclasses.dataclass(frozen=True)
class Retries:
    """Exponential backoff with full jitter.

    The delay before retry k = 0, 1, .. is uniform on [0, min(max_delay, first_delay * 2^k)], so
    that clients that failed together do not retry together. Source: M. Brooker, "Exponential
    Backoff and Jitter", AWS Architecture Blog, 2015.

    Attributes:
        max_retries: retries after the first try, >= 0.
        first_delay: upper bound of the first delay, in seconds.
        max_delay: upper bound of every delay, in seconds.
    """

    max_retries: int = 5
    first_delay: float = 0.1
    max_delay: float = 5.0

    def delay(self, number: int, retry_after: float, draw: Callable[[], float]) -> float:
        """Returns the seconds before a retry.

        Args:
            number: number of earlier retries.
            retry_after: seconds requested by the server, a lower bound; 0 for none.
            draw: returns a uniform number in [0, 1).
        """
        return max(retry_after, draw() * min(self.max_delay, self.first_delay * 2.0**number))

    def call(
        self,
        attempt: Callable[[float], Answer],
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> Answer:
        """Calls `attempt` until it succeeds, fails permanently, or the time is over.

        Args:
            attempt: called with the remaining seconds; raises `ClientError`.
            seconds: time for all tries and delays together, > 0.
            clock: returns the time in seconds.
            sleep: waits for some seconds.
            draw: returns a uniform number in [0, 1).

        Raises:
            DeadlineExceeded: no try succeeded in time; the message contains the last error.
            ClientError: as raised by `attempt`.
        """
        end = clock() + seconds
        for number in range(self.max_retries + 1):
            try:
                return attempt(max(end - clock(), 1e-3))
            except ClientError as error:
                if not error.transient or number == self.max_retries:
                    raise
                pause = self.delay(number, error.retry_after, draw)
                if clock() + pause >= end:
                    raise DeadlineExceeded(
                        f"no answer within {seconds:g} s and {number + 1} tries; last error: "
                        f"{error}"
                    ) from error
            sleep(pause)
        raise AssertionError("unreachable")


class ClientError(RunError):
    """A request without a valid answer. Subclasses follow gRPC's status codes.

    Attributes:
        transient: True if the same request may succeed later.
        retry_after: seconds to wait, as requested by the server; 0 if it requested none.
    """

    transient = False

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Refused(ClientError):  # noqa: N818
    """The server refuses the request's content (HTTP 4xx, INVALID_ARGUMENT)."""


class NotFound(ClientError):  # noqa: N818
    """The server has no such model or version (HTTP 404, NOT_FOUND)."""


class Overloaded(ClientError):  # noqa: N818
    """The server has too many requests (HTTP 429, RESOURCE_EXHAUSTED)."""

    transient = True


class Unavailable(ClientError):  # noqa: N818
    """No server answers, or the connection broke (HTTP 502 and 503, UNAVAILABLE)."""

    transient = True


class DeadlineExceeded(ClientError):  # noqa: N818
    """The request took too long (HTTP 408 and 504, DEADLINE_EXCEEDED)."""


class BadAnswer(ClientError):  # noqa: N818
    """The server failed (HTTP 5xx, INTERNAL), or its answer has an unexpected form."""


def without_password(server: str) -> str:
    """Removes everything before an @ from a `--server` value, so that messages may show it."""
    # Up to the last @, because a password may contain one that should have been written %40. The
    # rest may be malformed in any way, because messages show it when they refuse it.
    return re.sub(r"^([a-z]+:[/\\]*)?.*@", r"\1", server, flags=re.IGNORECASE | re.DOTALL)


def address_and_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """Splits a URL that passed `check_server` into the URL without its user, and (name, password).

    The second is None for a URL without a user.
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    return address, (unquote(name), unquote(password)) if at else None


def check_server(server: str, model_name: str) -> None:
    """Checks a server's address and a model's name.

    Raises:
        UsageError: one is malformed, or a password would be sent over a network unencrypted.
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
        raise UsageError(f"--server={shown}: http sends the password unencrypted; use https://")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", model_name):
        raise UsageError(f"--model_name={model_name}: expected letters, digits, ., _ and - only")


def _is_address(server: str, parts: SplitResult, port: int | None) -> bool:
    # Libraries disagree on whether spaces and control characters are dropped.
    if not parts.hostname or re.search(r"[\s\x00-\x1f\x7f\\?#]", server):
        return False
    if parts.scheme == "grpc":
        return port is not None and not parts.path.strip("/") and "@" not in server
    # An @ in the path was probably meant as part of a password.
    return (
        parts.scheme in ("http", "https")
        and "@" not in parts.path
        and "@" not in (parts.netloc.rpartition("@")[0])
    )
