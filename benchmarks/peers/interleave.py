"""Measures variants of a step in turn, so that other load on the machine affects all alike."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Way:
    """A variant of a step.

    Attributes:
        name: name in the table.
        read: number of a step, from 0 -> its inputs.
        step: inputs -> losses, which are copied back as in the training loop.
        rows: inputs -> (rows of data, rows including padding).
    """

    name: str
    read: Callable[[int], Any]
    step: Callable[[Any], dict[str, Any]]
    rows: Callable[[Any], tuple[int, int]]


@dataclasses.dataclass
class Times:
    """Times of one variant, by block and step: seconds, CPU seconds of all threads, rows."""

    read: list[list[float]] = dataclasses.field(default_factory=list)
    step: list[list[float]] = dataclasses.field(default_factory=list)
    cpu: list[list[float]] = dataclasses.field(default_factory=list)
    rows: list[list[int]] = dataclasses.field(default_factory=list)
    places: list[list[int]] = dataclasses.field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Summarises times in ms (`_ms`), times per row in microseconds (`_us`), and rows/s.

        `median_` and `p99_` are over all steps, without reading; `least_block_` is the mean of the
        fastest block. `cpu_ms` is the median CPU time, which other processes affect less. Rows/s
        include reading. An empty batch counts as one row.
        """
        blocks = [sum(max(n, 1) for n in block) for block in self.rows]
        steps, rows = flat(self.step), flat(self.rows)
        both = [sum(a) + sum(b) for a, b in zip(self.read, self.step, strict=True)]
        by_row = [s / max(n, 1) for s, n in zip(steps, rows, strict=True)]
        by_row_in_block = [sum(s) / n for s, n in zip(self.step, blocks, strict=True)]
        return {
            "median_ms": 1e3 * statistics.median(steps),
            "p99_ms": 1e3 * sorted(steps)[math.ceil(0.99 * len(steps)) - 1],
            "least_block_ms": 1e3 * min(statistics.fmean(block) for block in self.step),
            "median_row_us": 1e6 * statistics.median(by_row),
            "least_block_row_us": 1e6 * min(by_row_in_block),
            "cpu_ms": 1e3 * statistics.median(flat(self.cpu)),
            "read_ms": 1e3 * statistics.median(flat(self.read)),
            "rows": statistics.fmean(rows),
            "places": statistics.fmean(flat(self.places)),
            "rows_per_second": sum(blocks) / sum(both),
            "best_rows_per_second": max(n / t for n, t in zip(blocks, both, strict=True)),
            "steps": len(steps),
        }


def flat(blocks: Sequence[Sequence[Any]]) -> list[Any]:
    """Concatenates the steps of all blocks."""
    return [value for block in blocks for value in block]


def interleaved(
    ways: Sequence[Way], *, rounds: int, steps: int, warm_up: int
) -> dict[str, dict[str, float]]:
    """Measures `rounds` blocks of `steps` steps of each variant, in turn.

    A block's inputs are read before its steps run, and both are timed separately. Every other round
    has the reverse order. `warm_up` uncounted steps of each variant come first; they trace the step
    and initialise kernels for the usual batch sizes.

    Returns:
        Name -> `Times.summary`.
    """
    times = {way.name: Times() for way in ways}
    for way in ways:
        for number in range(warm_up):
            _finish(way.step(way.read(number)))
    for number in range(rounds):
        first = warm_up + number * steps
        for way in ways if number % 2 == 0 else reversed(ways):
            _block(way, range(first, first + steps), times[way.name])
    return {name: measured.summary() for name, measured in times.items()}


def _block(way: Way, numbers: range, times: Times) -> None:
    read, step, cpu, inputs = [], [], [], []
    for number in numbers:
        begun = time.perf_counter()
        inputs.append(way.read(number))
        read.append(time.perf_counter() - begun)
    for part in inputs:
        begun, worked = time.perf_counter(), time.process_time()
        _finish(way.step(part))
        step.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - worked)
    times.read.append(read)
    times.step.append(step)
    times.cpu.append(cpu)
    times.rows.append([way.rows(part)[0] for part in inputs])
    times.places.append([way.rows(part)[1] for part in inputs])


def _finish(losses: dict[str, Any]) -> None:
    for value in losses.values():
        float(value)
