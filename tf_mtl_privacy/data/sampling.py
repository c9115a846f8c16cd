"""Sampling of shuffled epochs, and reading batches ahead in the background."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
PADDING = -1


class ShuffledEpochs:
    """Epochs that are permutations of `rows`, cut into batches; the last batch is padded.

    A batch is a pure function of (seed, epoch, step), so a resumed run needs no sampler state.

    Args:
        rows: `[N]` int64 row numbers, N > 0.
        batch_size: rows in a batch, > 0.
        seed: >= 0.
        drop_ragged: leave out an epoch's last rows instead of padding them; each epoch leaves out
            other rows. With fewer rows than `batch_size`, one batch has them all.
    """

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int, *, drop_ragged: bool = False
    ) -> None:
        if len(rows) == 0 or batch_size < 1 or seed < 0:
            raise ValueError(
                f"Expected rows > 0, batch_size > 0, seed >= 0: {len(rows)}, {batch_size}, {seed}"
            )
        self._rows = np.asarray(rows, np.int64)
        self._batch_size = min(batch_size, len(rows)) if drop_ragged else batch_size
        self._seed, self._drop_ragged = seed, drop_ragged
        self._epoch, self._order = -1, self._rows

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the padded one included."""
        if self._drop_ragged:
            return len(self._rows) // self._batch_size
        return -(-len(self._rows) // self._batch_size)

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns batch `step` of epoch `epoch`, both counted from 0.

        Returns:
            `(rows [batch_size] int64, mask [batch_size] bool)`; padding has row -1, mask False.
        """
        if not 0 <= step < self.steps_per_epoch or epoch < 0:
            raise IndexError(f"epoch {epoch}, step {step}: an epoch has {self.steps_per_epoch}")
        order = self._permutation(epoch)
        part = order[step * self._batch_size : (step + 1) * self._batch_size]
        rows = np.full(self._batch_size, PADDING, np.int64)
        rows[: len(part)] = part
        return rows, rows != PADDING

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            key = np.array([self._seed, epoch], np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            self._order = generator.permutation(self._rows)
            self._epoch = epoch
        return self._order


def without_spare_places(
    rows: np.ndarray, mask: np.ndarray, multiple: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Shortens a batch's padding so that its length is the next multiple of `multiple`.

    Args:
        rows: `[B]` int64, padding at the end.
        mask: `[B]` bool, False for padding.
        multiple: > 0; with few different sizes, a step's kernels are set up once per size. Below
            16 rows CPU kernels round differently, so that one row less could change all others.

    Returns:
        `(rows, mask)` of at least `multiple` and at most B places.
    """
    places = max(-(-int(mask.sum()) // multiple), 1) * multiple
    return rows[:places], mask[:places]


def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """Yields `items` in order, reading up to `depth` items ahead in a background thread.

    An exception from `items` is raised after the items before it. Closing the iterator (or leaving
    the loop over it) stops the thread.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(max(depth, 1))
    stopped = threading.Event()

    def put(is_item: bool, value: Item | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((is_item, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # raised again in the reader
            put(False, error)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join(timeout=5.0)
