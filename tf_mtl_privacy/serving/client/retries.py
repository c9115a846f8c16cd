"""Tries a request again after transient failures, later each time, until a deadline."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tf_mtl_privacy.serving.client.errors import ClientError, DeadlineExceeded

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
