"""Limits on what clients may use, and the memory budget that all requests share."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tf_mtl_privacy.serving.server.errors import Code, RequestError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of the check server; a request over a limit is refused before any work.

    Attributes:
        max_request_bytes: size of a request.
        max_bytes_in_flight: total size of all HTTP and gRPC requests that are being read or are
            waiting, plus the pixels that the demo page decodes. A gRPC message counts once it has
            arrived in full; until then it is in gRPC's own memory.
        max_request_rows: pictures in a request.
        max_pixels: total pixels of all encoded pictures in a request.
        max_queued_requests: requests waiting for the model; also open gRPC calls.
        max_connections: open HTTP connections.
        client_seconds: time for a client to send a request and, over HTTP, to read the answer.
        answer_seconds: time a request may wait for its answer.
        max_batch_size: rows in one run of the model when requests are batched together.
        max_batch_bytes: size of the inputs of such a batch; batching copies them.
        batch_timeout_seconds: time a request waits for others to batch with.
    """

    max_request_bytes: int = 32 * 2**20
    max_bytes_in_flight: int = 256 * 2**20
    max_request_rows: int = 256
    max_pixels: int = 200_000_000
    max_queued_requests: int = 512
    max_connections: int = 1024
    client_seconds: float = 20.0
    answer_seconds: float = 60.0
    max_batch_size: int = 32
    max_batch_bytes: int = 16 * 2**20
    batch_timeout_seconds: float = 0.002


class MemoryBudget:
    """Counts the bytes that all requests hold together; thread-safe.

    Args:
        total: bytes available.
    """

    def __init__(self, total: int) -> None:
        self.total, self._used, self._lock = total, 0, threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that requests hold."""
        return self._used

    def add(self, count: int) -> bool:
        """Adds `count` bytes, negative to release; returns False if they do not fit."""
        with self._lock:
            if self._used + count > self.total:
                return False
            self._used += count
            return True

    @contextmanager
    def share(self) -> Iterator[MemoryShare]:
        """Opens an empty share, which is released at the end."""
        share = MemoryShare(self)
        try:
            yield share
        finally:
            self.add(-share.held)


class MemoryShare:
    """The bytes that one request holds of a budget; for one thread at a time."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self.held = budget, 0

    def take(self, count: int) -> None:
        """Takes `count` more bytes.

        Raises:
            RequestError: the budget does not have that many left.
        """
        if not self._budget.add(count):
            raise RequestError(
                Code.EXHAUSTED, "other requests use all memory for requests; try again later"
            )
        self.held += count
