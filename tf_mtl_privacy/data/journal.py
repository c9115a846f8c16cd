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


class BlockJournal:
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

    def __enter__(self) -> BlockJournal:
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
