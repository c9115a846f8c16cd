"""Request queue: one thread runs the model and batches waiting requests together.

Requests are batched if they have the same version, signature and row shapes. Each gets its own rows
back. An input that the model refuses fails only its own request.
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

from tf_mtl_privacy.serving.server.errors import Code, RequestError
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.model import Array, Arrays, Model


class Batcher:
    """Queues requests from any thread and runs them.

    Args:
        limits: bounds of the queue and of a batch.
        observe_batch: called with the number of rows of each run of the model.
    """

    def __init__(
        self, limits: Limits, observe_batch: Callable[[int], None] = lambda rows: None
    ) -> None:
        self._limits, self._observe_batch = limits, observe_batch
        self._waiting: collections.deque[_Request] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Number of waiting requests."""
        return len(self._waiting)

    def submit(
        self, model: Model, signature: str, inputs: Mapping[str, Array], rows: int
    ) -> Future[Arrays]:
        """Queues a request; cancelling the future removes it from the queue.

        Args:
            model: a version.
            signature: one of its signatures.
            inputs: each with `rows` rows, or none with a first axis.
            rows: number of rows.

        Raises:
            RequestError: too many requests wait, or the server is stopping.
        """
        answer: Future[Arrays] = Future()
        with self._changed:
            if self._closed:
                raise RequestError(Code.UNAVAILABLE, "the server is stopping")
            if len(self._waiting) >= self._limits.max_queued_requests:
                raise RequestError(
                    Code.EXHAUSTED,
                    f"{len(self._waiting)} requests are waiting already; try again later",
                )
            self._waiting.append(_Request(model, signature, inputs, rows, time.monotonic(), answer))
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Answers waiting requests, accepts no more, and ends the thread."""
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
                # This thread must survive: no other one would run the next batch.
                for item in started:
                    if not item.answer.done():
                        item.answer.set_exception(error)

    def _next(self) -> list[_Request]:
        """The oldest request and those compatible with it; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            end = first.since + self._limits.batch_timeout_seconds
            while not self._closed and not self._fills_a_batch(first):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._take(first)

    def _fills_a_batch(self, first: _Request) -> bool:
        compatible = [item for item in self._waiting if item.key == first.key]
        return (
            sum(item.rows for item in compatible) >= self._limits.max_batch_size
            or sum(item.size for item in compatible) >= self._limits.max_batch_bytes
        )

    def _take(self, first: _Request) -> list[_Request]:
        rows, size, batch, left = 0, 0, list[_Request](), list[_Request]()
        for item in self._waiting:
            fits = not batch or (
                rows + item.rows <= self._limits.max_batch_size
                and size + item.size <= self._limits.max_batch_bytes
            )
            if item.key == first.key and fits:
                batch.append(item)
                rows += item.rows
                size += item.size
            else:
                left.append(item)
        self._waiting = collections.deque(left)
        return batch

    def _run(self, batch: list[_Request]) -> None:
        if len(batch) == 1:
            self._run_alone(batch[0])
            return
        names = batch[0].inputs
        rows = sum(item.rows for item in batch)
        try:
            merged = {name: np.concatenate([item.inputs[name] for item in batch]) for name in names}
            outputs = batch[0].model.run(batch[0].signature, merged)
        except Exception:
            outputs = {}
        if not outputs or any(not value.ndim or len(value) != rows for value in outputs.values()):
            # One input is refused, the memory does not suffice for all, or the outputs cannot be
            # split by row.
            for item in batch:
                self._run_alone(item)
            return
        self._observe_batch(rows)
        start = 0
        for item in batch:
            part = slice(start, start + item.rows)
            # Copied, so that a small answer does not keep the outputs of the others in memory.
            item.answer.set_result({name: value[part].copy() for name, value in outputs.items()})
            start += item.rows

    def _run_alone(self, item: _Request) -> None:
        try:
            outputs = item.model.run(item.signature, item.inputs)
        except Exception as error:
            item.answer.set_exception(error)
            return
        item.answer.set_result(outputs)
        self._observe_batch(item.rows)


@dataclasses.dataclass(frozen=True)
class _Request:
    model: Model
    signature: str
    inputs: Mapping[str, Array]
    rows: int
    since: float
    answer: Future[Arrays]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for requests that can run together."""
        shapes = tuple((name, value.shape[1:]) for name, value in sorted(self.inputs.items()))
        return (id(self.model), self.signature, shapes)

    @property
    def size(self) -> int:
        """Bytes that batching copies."""
        return sum(value.nbytes for value in self.inputs.values())
