"""How much of everything one client may take, so that none takes the machine.

The memory that requests of both interfaces share, counted in bytes.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tf_mtl_privacy.serving.server.errors import Code, Refusal


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of the check server; what exceeds one is refused before any work.

    Attributes:
        body_bytes: size of a request.
        bytes_in_flight: size of all requests of HTTP and gRPC that are being read or wait,
            together, and of the pixels that the page decodes. A message of gRPC counts from when it
            has come in whole; before that it is in gRPC's own memory.
        rows: pictures in a request.
        pixels: pixels of all encoded pictures in a request, together.
        queue: requests that wait for the model, and open calls of gRPC.
        connections: open connections of HTTP.
        client_seconds: time that a client has to send a request, and over HTTP to take the answer.
        answer_seconds: time that a request may wait for its answer.
        merge_rows: pictures that requests are merged up to, for one run of the model.
        merge_bytes: size of the inputs that requests are merged up to; merging copies them.
        merge_seconds: how long a request waits for others to be merged with.
    """

    body_bytes: int = 32 * 2**20
    bytes_in_flight: int = 256 * 2**20
    rows: int = 256
    pixels: int = 200_000_000
    queue: int = 512
    connections: int = 1024
    client_seconds: float = 20.0
    answer_seconds: float = 60.0
    merge_rows: int = 32
    merge_bytes: int = 16 * 2**20
    merge_seconds: float = 0.002


class Share:
    """Bytes that one request holds of a budget; used from one thread at a time."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    def take(self, count: int) -> None:
        """Holds `count` bytes more.

        Raises:
            Refusal: the budget has not as many left.
        """
        if not self._budget.add(count):
            raise Refusal(
                Code.EXHAUSTED,
                "other requests fill the memory for requests; try again a little later",
            )
        self.held += count


class Budget:
    """Bytes of all requests together; used from any thread."""

    def __init__(self, total: int) -> None:
        self.total, self._used, self._lock = total, 0, threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that requests hold."""
        return self._used

    def add(self, count: int) -> bool:
        """Counts `count` bytes more, or fewer; whether they fit, and otherwise nothing changes."""
        with self._lock:
            if self._used + count > self.total:
                return False
            self._used += count
            return True

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share that is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.add(-share.held)
