"""Tries again after transient failures only, later each time, and never beyond the deadline."""

import pytest

from tf_mtl_privacy.serving.client import (
    DeadlineExceeded,
    Overloaded,
    Refused,
    Retries,
    Unavailable,
)


class Clock:
    """Time that passes only where somebody waits or works."""

    def __init__(self, *failures, work=0.0):
        self.now, self.waits, self.left, self.failures = 100.0, [], [], list(failures)
        self.work = work

    def attempt(self, left):
        self.left.append(left)
        self.now += self.work
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def call(self, retries, seconds=60.0, draw=1.0):
        tools = {"clock": lambda: self.now, "sleep": self.sleep, "draw": lambda: draw}
        return retries.call(self.attempt, seconds, **tools)


def test_waits_double_up_to_the_longest_and_shrink_by_what_is_drawn():
    failures = [Unavailable("gone") for _ in range(5)]
    clock = Clock(*failures)
    assert clock.call(Retries(most=5, first=0.5, longest=3.0)) == "done"
    assert clock.waits == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert clock.left == [60.0, 59.5, 58.5, 56.5, 53.5, 50.5]
    half = Clock(*[Unavailable("gone") for _ in range(2)])
    half.call(Retries(first=0.5), draw=0.5)
    assert half.waits == [0.25, 0.5]


def test_what_the_server_asks_for_is_waited():
    clock = Clock(Overloaded("full", retry_after=7.0))
    assert clock.call(Retries(), draw=0.0) == "done" and clock.waits == [7.0]


def test_other_failures_are_final():
    clock = Clock(Refused("no"))
    with pytest.raises(Refused):
        clock.call(Retries())
    assert clock.waits == [] and len(clock.left) == 1


def test_the_last_try_s_failure_is_told():
    clock = Clock(*[Unavailable(f"gone {number}") for number in range(9)])
    with pytest.raises(Unavailable, match="gone 2"):
        clock.call(Retries(most=2, first=0.1))
    assert len(clock.left) == 3


def test_no_wait_goes_beyond_the_deadline():
    clock = Clock(*[Unavailable("gone") for _ in range(9)], work=1.0)
    with pytest.raises(DeadlineExceeded, match="within 5 s and 2 tries; the last one: gone"):
        clock.call(Retries(most=8, first=1.0), seconds=5.0)
    assert clock.now == 103.0 and clock.waits == [1.0]
