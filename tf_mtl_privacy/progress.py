"""Progress: a bar on a terminal, plain lines in a log file; both with rate and time left."""

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
        label: a short name of the work.
        unit: the name of one unit (plural), for the rate.
        stream: output; standard error by default.
    """

    def __init__(
        self, total: int, label: str, unit: str = "steps", stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._label, self._unit, self._total = label, unit, total
        self._done, self._started, self._printed = 0, time.monotonic(), time.monotonic()
        self._untimed, self._is_timing = 0, False
        self._note = ""
        self._bar: Any = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                desc=label,
                unit=f" {unit}",
                file=self._stream,
                leave=False,
                # The mean rate: with recent rates the time left jumps where units differ in cost.
                smoothing=0,
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
        """Adds `count` finished units; `note` (a few figures) replaces the shown one.

        Rate and time left ignore the first update, which may have compiled a graph, so neither is
        shown before the second. They ignore units with `timed=False`, too, which existed before.
        """
        self._done += count
        self._note = note or self._note
        now = time.monotonic()
        is_first = timed and count > 0 and not self._is_timing
        self._untimed += count if is_first or not timed else 0
        if is_first:
            self._is_timing, self._started = True, now
        if self._bar is not None:
            self._update_bar(count, restart=is_first)
        elif now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            parts = [f"{self._label}: {self._done}/{self._total} {self._unit}", *self._times(now)]
            print(f"{', '.join(parts)} {self._note}".rstrip(), file=self._stream, flush=True)

    def _update_bar(self, count: int, restart: bool) -> None:
        bar = self._bar
        bar.set_postfix_str(self._note, refresh=False)
        bar.initial = self._untimed
        if restart:
            # Restarts the bar, so that no rate includes this update's time.
            bar.n = bar.last_print_n = self._done
            bar.start_t = bar.last_print_t = time.time()
            bar.refresh()
        else:
            bar.update(count)

    def _times(self, now: float) -> list[str]:
        """Returns rate and time left in words, or an empty list if nothing was timed yet."""
        timed = self._done - self._untimed
        if not timed:
            return []
        rate = timed / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate
        return [_speed(rate, self._unit), f"{left:.0f} s left"]


def _speed(rate: float, unit: str) -> str:
    """Returns a rate per second, or per minute if it is below one per second."""
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{60 * rate:.1f} {unit}/min"
