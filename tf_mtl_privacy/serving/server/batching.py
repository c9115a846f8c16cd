"""One thread runs the model; requests that wait together are run together.

Requests are merged where signature, version and shapes of their rows are the same. Each gets its
own rows back, and an input that the model refuses fails the request that it came with only.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from tf_mtl_privacy.serving.server.errors import Code, Refusal
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.model import Array, Model

Outputs = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class _Waiting:
    model: Model
    signature: str
    inputs: Mapping[str, Array]
    rows: int
    since: float
    answer: Future[Outputs]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Requests of the same kind can be run together."""
        shapes = tuple((name, value.shape[1:]) for name, value in sorted(self.inputs.items()))
        return (id(self.model), self.signature, shapes)

    @property
    def size(self) -> int:
        """Bytes that merging copies."""
        return sum(value.nbytes for value in self.inputs.values())


class Batcher:
    """Takes requests from any thread.

    Args:
        limits: how many may wait, and how they are merged.
        ran: called with the number of rows of each run of the model.
    """

    def __init__(self, limits: Limits, ran: Callable[[int], None] = lambda rows: None) -> None:
        self._limits, self._ran = limits, ran
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def submit(
        self, model: Model, signature: str, inputs: Mapping[str, Array], rows: int
    ) -> Future[Outputs]:
        """Queues a request; cancelling the answer takes it out again.

        Args:
            model: a version.
            signature: one of its signatures.
            inputs: each with `rows` rows, or none with a first axis.
            rows: number of rows.

        Raises:
            Refusal: too many requests wait, or the server stops.
        """
        answer: Future[Outputs] = Future()
        with self._changed:
            if self._closed:
                raise Refusal(Code.UNAVAILABLE, "the server is stopping")
            if len(self._waiting) >= self._limits.queue:
                raise Refusal(
                    Code.EXHAUSTED,
                    f"{len(self._waiting)} requests wait already; try again a little later",
                )
            self._waiting.append(_Waiting(model, signature, inputs, rows, time.monotonic(), answer))
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Answers what waits, takes no more, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            started = [item for item in batch if item.answer.set_running_or_notify_cancel()]
            if not started:
                continue
            try:
                self._run(started)
            except Exception as error:
                # There is no other thread for the next batch.
                for item in started:
                    if not item.answer.done():
                        item.answer.set_exception(error)

    def _next(self) -> list[_Waiting]:
        """The oldest request and those that fit to it; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            end = first.since + self._limits.merge_seconds
            while not self._closed and not self._fills_a_run(first):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._take(first)

    def _fills_a_run(self, first: _Waiting) -> bool:
        alike = [item for item in self._waiting if item.kind == first.kind]
        return (
            sum(item.rows for item in alike) >= self._limits.merge_rows
            or sum(item.size for item in alike) >= self._limits.merge_bytes
        )

    def _take(self, first: _Waiting) -> list[_Waiting]:
        rows, size, batch, left = 0, 0, list[_Waiting](), list[_Waiting]()
        for item in self._waiting:
            fits = not batch or (
                rows + item.rows <= self._limits.merge_rows
                and size + item.size <= self._limits.merge_bytes
            )
            if item.kind == first.kind and fits:
                batch.append(item)
                rows += item.rows
                size += item.size
            else:
                left.append(item)
        self._waiting = collections.deque(left)
        return batch

    def _run(self, batch: list[_Waiting]) -> None:
        if len(batch) == 1:
            self._run_alone(batch[0])
            return
        names = batch[0].inputs
        rows = sum(item.rows for item in batch)
        try:
            merged = {name: np.concatenate([item.inputs[name] for item in batch]) for name in names}
            found = batch[0].model.run(batch[0].signature, merged)
        except Exception:
            found = {}
        if not found or any(not value.ndim or len(value) != rows for value in found.values()):
            # One of them is refused, the memory is too small for all of them together, or the
            # answer does not tell them apart.
            for item in batch:
                self._run_alone(item)
            return
        self._ran(rows)
        start = 0
        for item in batch:
            part = slice(start, start + item.rows)
            # Copied, so that a small answer does not keep all others' in memory.
            item.answer.set_result({name: value[part].copy() for name, value in found.items()})
            start += item.rows

    def _run_alone(self, item: _Waiting) -> None:
        try:
            found = item.model.run(item.signature, item.inputs)
        except Exception as error:
            item.answer.set_exception(error)
            return
        item.answer.set_result(found)
        self._ran(item.rows)
