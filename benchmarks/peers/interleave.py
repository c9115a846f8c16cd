"""Times ways of doing the same work in turns, so that a busy machine hurts all of them alike."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Way:
    """One way of doing a step.

    Attributes:
        name: for the table.
        read: number of a step, counted from 0 -> its inputs.
        step: inputs -> losses, which are read back as the training loop does.
        rows: inputs -> (rows of data among them, places with padding).
    """

    name: str
    read: Callable[[int], Any]
    step: Callable[[Any], dict[str, Any]]
    rows: Callable[[Any], tuple[int, int]]


@dataclasses.dataclass
class Times:
    """What one way took, in blocks of steps: seconds, processor seconds of all threads, rows."""

    read: list[list[float]] = dataclasses.field(default_factory=list)
    step: list[list[float]] = dataclasses.field(default_factory=list)
    cpu: list[list[float]] = dataclasses.field(default_factory=list)
    rows: list[list[int]] = dataclasses.field(default_factory=list)
    places: list[list[int]] = dataclasses.field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Times in ms (`_ms`), times by row in microseconds (`_us`), and rows a second.

        `median_`, `p99_` (99 % of steps take at most that) and `least_block_` are of the step
        alone: over all steps, and the mean of the best block; `cpu_ms` is its processor time,
        median, which other processes hurt less. Rows a
        second count the reading of inputs too. An empty batch counts as a row.
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
    """The steps of all blocks in one list."""
    return [value for block in blocks for value in block]


def interleaved(
    ways: Sequence[Way], *, rounds: int, steps: int, warm_up: int
) -> dict[str, dict[str, float]]:
    """Name -> `Times.summary`, from `rounds` blocks of `steps` steps of each way, in turns.

    A block's inputs are read before its steps run, and each part is timed by itself. Every other
    round goes through the ways backwards. `warm_up` steps of each way come first, not counted: they
    trace the step and set up kernels for the sizes of batches that there are.
    """
    times = {way.name: Times() for way in ways}
    for way in ways:
        for number in range(warm_up):
            _finish(way.step(way.read(number)))
    for number in range(rounds):
        first = warm_up + number * steps
        for way in ways if number % 2 == 0 else reversed(ways):
            _block(way, range(first, first + steps), times[way.name])
    return {name: found.summary() for name, found in times.items()}


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
