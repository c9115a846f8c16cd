"""The memory that requests of both interfaces share, counted in bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tf_mtl_privacy.serving.server.refusal import Code, Refusal


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
