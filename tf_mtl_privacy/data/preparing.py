"""Makes a store from a source: in parallel, resumable after a kill, atomic.

What is done of a store in the making, synced to disk block by block.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data.sources.base import DAMAGED, DataSource, LabelTable
from tf_mtl_privacy.data.store import (
    FORMAT_VERSION,
    IMAGES,
    META,
    REGIONS,
    block_digest,
    region_bytes,
    save_columns,
    store_checksum,
)
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir, write_atomic, write_json
from tf_mtl_privacy.progress import Progress


class Block(NamedTuple):
    """One finished block: its SHA-256 (hex) and `(row, reason)` of its damaged images."""

    digest: str
    damaged: list[tuple[int, str]]


class PrepareLog:
    """Appends one line per finished block; a line that a kill cut short is dropped on opening.

    Of two lines about the same block the later one counts.

    Attributes:
        blocks: first row of the block -> `Block`.
    """

    def __init__(self, path: Path) -> None:
        self.blocks: dict[int, Block] = {}
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self.blocks[entry["start"]] = Block(entry["digest"], _pairs(entry["damaged"]))
                whole += len(line)
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        self._file.truncate(whole)

    def __enter__(self) -> PrepareLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, start: int, block: Block) -> None:
        """Writes down that the block from row `start` on is done, and syncs."""
        entry = {"start": start, "digest": block.digest, "damaged": block.damaged}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.blocks[start] = block

    def forget_damaged(self) -> None:
        """Takes blocks with a damaged image as not done: the image may have been mended since."""
        self.blocks = {start: block for start, block in self.blocks.items() if not block.damaged}

    def damaged(self) -> list[tuple[int, str]]:
        """`(row, reason)` of all damaged images so far, in order of rows."""
        return sorted(item for block in self.blocks.values() for item in block.damaged)


def _pairs(items: list[list]) -> list[tuple[int, str]]:
    return [(int(row), str(reason)) for row, reason in items]


_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 8 << 20
JOURNAL = "journal.jsonl"


def store_folder(source: DataSource, cache: Path) -> Path:
    """Where the store of `source` lies inside the folder `cache`."""
    name = source.name.replace(":", "_").replace("/", "_")
    return cache / f"{name}-{source.size}px-v{FORMAT_VERSION}-{source.fingerprint()[:16]}"


def prepare_store(
    source: DataSource, final: Path, *, max_damaged: float, workers: int = 0, force: bool = False
) -> None:
    """Makes the store of `source` in the folder `final` unless it is there.

    Finished blocks survive a kill and are not done again, except those with damage. Two processes
    take turns. A damaged or missing image leaves a black row with split -1 and a line in
    `damaged.csv`.

    Args:
        source: what to read.
        final: the store's folder, see `store_folder`; the folder around it is made readable by
            the owner only.
        max_damaged: share of damaged or missing images above which it stops, in [0, 1].
        workers: threads that read; 0 means one per core.
        force: make it again from the start, even if it is there or half done.

    Raises:
        RunError: too many damaged images, or the folder cannot be written (full, read-only).
    """
    cache = private_dir(final.parent)
    with _write_errors(cache), _locked(cache / f".{final.name}.lock"):
        if (final / META).exists() and not force:
            return
        partial = cache / f"{final.name}.partial"
        if force:
            shutil.rmtree(partial, ignore_errors=True)
        private_dir(partial)
        _Build(source, partial, max_damaged, workers or os.cpu_count() or 1).run()
        _replace_folder(partial, final)
        (final / JOURNAL).unlink()


def _replace_folder(new: Path, final: Path) -> None:
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(new, final)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("another process prepares this store; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Build:
    """One store in the making, in its partial folder."""

    def __init__(self, source: DataSource, folder: Path, max_damaged: float, workers: int) -> None:
        self._source, self._folder, self._max_damaged = source, folder, max_damaged
        self._workers = workers
        self._table = source.load()
        self._count = len(self._table.keys)
        self._image_bytes = 3 * source.size**2
        self._region_bytes = region_bytes(source.size) if source.has_regions else 0
        self._block_rows = int(np.clip(_BLOCK_BYTES // self._image_bytes, 16, 512))

    def run(self) -> None:
        """Does the blocks that are not done, then labels and meta.json."""
        if not self._count:
            raise RunError(f"{self._source.name}: there is no image at all")
        for warning in self._table.warnings:
            _LOG.warning("%s", warning)
        self._check_space()
        starts = range(0, self._count, self._block_rows)
        with PrepareLog(self._folder / JOURNAL) as journal:
            journal.forget_damaged()
            todo = [start for start in starts if start not in journal.blocks]
            self._do(todo, journal)
            blocks = [journal.blocks[start] for start in starts]
        damaged = [item for block in blocks for item in block.damaged]
        self._finish(blocks, sorted(damaged))

    def _do(self, todo: list[int], journal: PrepareLog) -> None:
        images = self._open(IMAGES, self._image_bytes)
        regions = self._open(REGIONS, self._region_bytes)
        label = f"prepare {self._source.name}"
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="prepare")
        try:
            with Progress(self._count, label, "images") as progress:
                progress.update(self._count - sum(self._rows(start).size for start in todo))
                for block in _bounded_map(pool, self._read_block, todo, 2 * self._workers):
                    start, pictures, packed, done = block
                    _write_at(images, pictures, start * self._image_bytes)
                    if regions >= 0 and packed is not None:
                        _write_at(regions, packed, start * self._region_bytes)
                    journal.add(start, done)
                    self._check_damaged(journal)
                    progress.update(len(pictures))
        finally:
            pool.shutdown(cancel_futures=True)
            os.close(images)
            if regions >= 0:
                os.close(regions)

    def _rows(self, start: int) -> np.ndarray:
        return np.arange(start, min(start + self._block_rows, self._count))

    def _read_block(self, start: int) -> tuple[int, np.ndarray, np.ndarray | None, Block]:
        rows = self._rows(start)
        pictures = self._source.read(rows)
        packed = None
        if self._source.has_regions and pictures.regions is not None:
            packed = np.packbits(pictures.regions.reshape(len(rows), -1), axis=1)
        damaged = [
            (int(row), reason) for row, reason in zip(rows, pictures.reasons, strict=True) if reason
        ]
        digest = block_digest(pictures.images, packed)
        return start, pictures.images, packed, Block(digest, damaged)

    def _open(self, name: str, row_bytes: int) -> int:
        if not row_bytes:
            return -1
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, self._count * row_bytes)
        return descriptor

    def _check_space(self) -> None:
        done = self._folder / IMAGES
        there = done.stat().st_blocks * 512 if done.exists() else 0
        needed = self._count * (self._image_bytes + self._region_bytes) - there
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise RunError(
                f"cannot write to {self._folder.parent}: No space left on device: the store needs "
                f"{needed / 1e6:.0f} MB more, {free / 1e6:.0f} MB are free"
            )

    def _check_damaged(self, journal: PrepareLog) -> None:
        damaged = journal.damaged()
        if len(damaged) <= self._max_damaged * self._count:
            return
        keys = self._table.keys
        first = "; ".join(f"{keys[row]}: {reason}" for row, reason in damaged[:3])
        read = min(len(journal.blocks) * self._block_rows, self._count)
        raise RunError(
            f"{len(damaged)} damaged or missing among the {read} images read so far (of "
            f"{self._count}), more than --max_damaged={self._max_damaged} allows: {first}"
        )

    def _finish(self, blocks: list[Block], damaged: list[tuple[int, str]]) -> None:
        table: LabelTable = self._table
        split = table.split.copy()
        split[[row for row, _ in damaged]] = DAMAGED
        save_columns(self._folder, dataclasses.replace(table, split=split))
        listed = [[row, str(table.keys[row]), reason] for row, reason in damaged]
        text = io.StringIO()
        csv.writer(text).writerows([["row", "image", "reason"], *listed])
        write_atomic(self._folder / "damaged.csv", text.getvalue())
        meta = {
            "format_version": FORMAT_VERSION,
            "name": self._source.name,
            "fingerprint": self._source.fingerprint(),
            "checksum": store_checksum([block.digest for block in blocks], self._folder),
            "rows": self._count,
            "size": self._source.size,
            "block_rows": self._block_rows,
            "has_regions": self._source.has_regions,
            "classes": [[name, list(names)] for name, names in table.attribute_classes.items()],
            "damaged": listed,
            "notes": list(table.notes),
            "warnings": [*table.warnings, *self._twins(split)],
        }
        write_json(self._folder / META, meta)

    def _twins(self, split: np.ndarray) -> list[str]:
        """Warns of pictures that are there under several names, and may be on both sides."""
        if self._source.name == "synthetic_faces":
            return []
        shape = (self._count, self._image_bytes)
        pixels = np.memmap(self._folder / IMAGES, np.uint8, "r", shape=shape)
        first: dict[bytes, int] = {}
        pairs = []
        for row in np.flatnonzero(split != DAMAGED).tolist():
            digest = hashlib.blake2b(pixels[row].data, digest_size=16).digest()
            earlier = first.setdefault(digest, row)
            if earlier != row:
                pairs.append((earlier, row))
        if not pairs:
            return []
        apart = [pair for pair in pairs if split[pair[0]] != split[pair[1]]]
        keys = self._table.keys
        one, other = (str(keys[row]) for row in (apart or pairs)[0])
        text = (
            f"{len(pairs)} pictures are the same as an earlier one under another name, {len(apart)}"
            f" of them in another split ({other} and {one}, say): they count twice"
        )
        _LOG.warning("%s", text)
        return [text]


def _write_at(descriptor: int, data: np.ndarray, offset: int) -> None:
    view = np.ascontiguousarray(data).data.cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    # The journal must never say done before the pictures are safe.
    os.fdatasync(descriptor)


def _bounded_map(pool: ThreadPoolExecutor, function, items: list[int], ahead: int):  # type: ignore
    """Results of `function` over `items` as they come, with at most `ahead` in flight."""
    left, running = iter(items), set[Future]()
    while True:
        while len(running) < ahead and (item := next(left, None)) is not None:
            running.add(pool.submit(function, item))
        if not running:
            return
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()
