"""A progress bar on a terminal, plain lines in a log file; both with a rate and time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts `total` units of work; use as a context manager.

    Args:
        total: number of units, > 0.
        label: what is being done, in a few words.
        unit: the name of one unit (plural), for the rate.
        stream: where to write; standard error by default.
    """

    def __init__(
        self, total: int, label: str, unit: str = "steps", stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._label, self._unit, self._total = label, unit, total
        self._done, self._started, self._printed = 0, time.monotonic(), time.monotonic()
        self._untimed = 0
        self._note = ""
        self._bar: Any = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total, desc=label, unit=f" {unit}", file=self._stream, leave=False
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1, note: str = "", *, timed: bool = True) -> None:
        """Adds `count` finished units; `note` (a few figures) replaces the one shown.

        Units with `timed=False` were there already: they do not count for the rate.
        """
        self._done += count
        self._untimed += 0 if timed else count
        self._note = note or self._note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.initial = self._untimed
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            rate = (self._done - self._untimed) / max(now - self._started, 1e-9)
            left = (self._total - self._done) / max(rate, 1e-9)
            print(
                f"{self._label}: {self._done}/{self._total} {self._unit}, "
                f"{_speed(rate, self._unit)}, {left:.0f} s left {self._note}".rstrip(),
                file=self._stream,
                flush=True,
            )


def _speed(rate: float, unit: str) -> str:
    """A rate per second, or per minute where that would be less than one."""
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{60 * rate:.1f} {unit}/min"
