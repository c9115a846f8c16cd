"""What a source of pictures offers to the store: a table of raw labels, and pictures by row."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import NamedTuple, Protocol

import numpy as np

# Bumped when the same source would give other pixels or raw labels than before.
SOURCE_VERSION = 1

SPLITS = ("train", "validation", "test", "attacker")
TRAIN, VALIDATION, TEST, ATTACKER = range(4)
DAMAGED = -1


@dataclasses.dataclass(frozen=True)
class Table:
    """Everything a source knows about its N rows apart from the pictures.

    Attributes:
        keys: `[N]` text, the file name or another name of the row.
        split: `[N]` int8, an index into `SPLITS`.
        attributes: name -> `[N]` int32 class number, -1 where unknown.
        attribute_classes: name -> names of its classes.
        person: `[N]` int64 number of the person, -1 where unknown; None where nobody is known.
        landmarks: `[N, 10]` float32 pixel positions x, y in the prepared picture (left eye, right
            eye, nose, left and right corner of the mouth); None where there are none.
        notes: what whoever reads results must know about these labels.
        warnings: what was odd about the files and did not stop anything.
    """

    keys: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    attribute_classes: dict[str, tuple[str, ...]]
    person: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Pictures(NamedTuple):
    """Pictures of n rows, as read from a source.

    Attributes:
        images: `[n, S, S, 3]` uint8, RGB; zeros where a picture is damaged.
        reasons: for each row an empty text, or why its picture is damaged or missing.
        regions: `[n, S, S]` bool, the true sensitive region; None where it is not known.
    """

    images: np.ndarray
    reasons: list[str]
    regions: np.ndarray | None = None


class Source(Protocol):
    """One data set in its original form."""

    name: str
    size: int
    has_regions: bool

    def fingerprint(self) -> str:
        """Hex text that changes with whatever changes pixels or raw labels; cheap to compute.

        The chosen tasks and the private label are not part of it: one store serves them all.
        """
        ...

    def load(self) -> Table:
        """Reads the raw labels of all rows."""
        ...

    def read(self, rows: np.ndarray) -> Pictures:
        """Reads and prepares the pictures of `rows` ([n] int64, ascending); from any thread."""
        ...


def fingerprint(*parts: object) -> str:
    """SHA-256 (hex) over the text of `parts`, in order, and `SOURCE_VERSION`."""
    digest = hashlib.sha256(repr(SOURCE_VERSION).encode())
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        # The length keeps ("a", "bc") and ("ab", "c") apart.
        digest.update(b"/%d/" % len(data))
        digest.update(data)
    return digest.hexdigest()
