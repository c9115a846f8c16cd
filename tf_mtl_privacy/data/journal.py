"""What is done of a store in the making, synced to disk block by block."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """One finished block: its SHA-256 (hex) and `(row, reason)` of its damaged images."""

    digest: str
    damaged: list[tuple[int, str]]


class Journal:
    """Appends one line per finished block; a line that a kill cut short is dropped on opening.

    Attributes:
        blocks: first row of the block -> `Block`.
    """

    def __init__(self, path: Path) -> None:
        self.blocks: dict[int, Block] = {}
        self._damaged: list[tuple[int, str]] = []
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self._note(entry["start"], Block(entry["digest"], _pairs(entry["damaged"])))
                whole += len(line)
        self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        self._file.truncate(whole)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, start: int, block: Block) -> None:
        """Writes down that the block from row `start` on is done, and syncs."""
        entry = {"start": start, "digest": block.digest, "damaged": block.damaged}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note(start, block)

    def damaged(self) -> list[tuple[int, str]]:
        """`(row, reason)` of all damaged images so far, in order of rows."""
        return sorted(self._damaged)

    def _note(self, start: int, block: Block) -> None:
        self.blocks[start] = block
        self._damaged += block.damaged


def _pairs(items: list[list]) -> list[tuple[int, str]]:
    return [(int(row), str(reason)) for row, reason in items]
