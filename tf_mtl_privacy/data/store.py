"""A prepared data set on disk: memory-mapped pictures and label columns, read by row number.

Pictures in memory, read like a store on disk.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tf_mtl_privacy.data.sources.base import LabelTable
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import read_json

FORMAT_VERSION = 1
META, IMAGES, REGIONS = "meta.json", "images.u8", "regions.bits"
_AGAIN = "make it again with tf_mtl_privacy.prepare --force"
_COLUMNS = ("keys", "split", "attributes", "person", "landmarks")


def cache_folder(cache_dir: str) -> Path:
    """Folder of the prepared stores: `--cache_dir`, or the usual one if that is empty."""
    return Path(cache_dir or os.path.join("~", ".cache", "tf_mtl_privacy")).expanduser()


class Pixels(Protocol):
    """What a `Dataset` reads pictures from: a `Store`, or arrays in memory."""

    size: int
    has_regions: bool

    def __len__(self) -> int: ...

    def images(self, rows: np.ndarray) -> np.ndarray:
        """`[n, S, S, 3]` uint8 of `rows` ([n] int64)."""
        ...

    def regions(self, rows: np.ndarray) -> np.ndarray:
        """`[n, S, S]` bool of `rows` ([n] int64), the true sensitive region."""
        ...


class Store:
    """A finished store folder, opened for reading.

    Attributes:
        folder: where it lies.
        meta: what `meta.json` says: format_version, name, fingerprint, checksum, rows, size,
            block_rows, has_regions, classes, damaged (`[row, key, reason]`), notes, warnings.
        table: labels of all rows; damaged rows have split -1.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens the store.

        Raises:
            RunError: it is not a finished store of this format, or its files do not fit together.
        """
        self.folder = Path(folder)
        self.meta: dict[str, Any] = read_json(self.folder / META)
        try:
            if self.meta["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format {self.meta['format_version']}, not {FORMAT_VERSION}")
            self.size, self._count = int(self.meta["size"]), int(self.meta["rows"])
            self.has_regions = bool(self.meta["has_regions"])
            self.table = self._load_table()
            shape = (self._count, self.size, self.size, 3)
            self._images = self._map(IMAGES, shape)
            width = region_bytes(self.size)
            self._regions = self._map(REGIONS, (self._count, width)) if self.has_regions else None
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise RunError(f"store {self.folder} is damaged ({error}); {_AGAIN}") from error

    def __len__(self) -> int:
        return self._count

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the source this store was made from."""
        return str(self.meta["fingerprint"])

    @property
    def checksum(self) -> str:
        """SHA-256 over all pictures and labels, as written when the store was made."""
        return str(self.meta["checksum"])

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Copies the pictures of `rows` ([n] int64 in [0, N)): `[n, S, S, 3]` uint8."""
        return self._images[check_rows(rows, self._count)]

    def regions(self, rows: np.ndarray) -> np.ndarray:
        """The true sensitive regions of `rows` ([n] int64 in [0, N)): `[n, S, S]` bool.

        Raises:
            RunError: this store knows no regions.
        """
        if self._regions is None:
            raise RunError(f"store {self.folder} knows no sensitive regions")
        packed = self._regions[check_rows(rows, self._count)]
        bits = np.unpackbits(packed, axis=1, count=self.size * self.size)
        return bits.reshape(len(packed), self.size, self.size).astype(bool)

    def verify(self) -> None:
        """Reads everything and compares with the checksum.

        Raises:
            RunError: the store is not what was written.
        """
        step = int(self.meta["block_rows"])
        digests = []
        for start in range(0, self._count, step):
            part = None if self._regions is None else self._regions[start : start + step]
            digests.append(block_digest(self._images[start : start + step], part))
        if store_checksum(digests, self.folder) != self.checksum:
            raise RunError(f"store {self.folder} is damaged (checksum differs); {_AGAIN}")

    def _load_table(self) -> LabelTable:
        columns = load_columns(self.folder)
        classes = {name: tuple(names) for name, names in self.meta["classes"]}
        if len(columns["split"]) != self._count or len(columns["attributes"]) != len(classes):
            raise ValueError("label columns do not fit meta.json")
        return LabelTable(
            keys=columns["keys"],
            split=columns["split"],
            attributes=dict(zip(classes, columns["attributes"], strict=True)),
            attribute_classes=classes,
            person=columns.get("person"),
            landmarks=columns.get("landmarks"),
            notes=tuple(self.meta["notes"]),
        )

    def _map(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        if path.stat().st_size != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name} has {path.stat().st_size} bytes")
        # A plain view of the mapping: indexing np.memmap itself costs several microseconds a call.
        return np.memmap(path, np.uint8, "r", shape=shape).view(np.ndarray)


def check_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Returns `rows`; a negative number would silently read from the end.

    Raises:
        IndexError: a row outside [0, count).
    """
    rows = np.asarray(rows)
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= count):
        raise IndexError(f"row {int(rows.min())} or {int(rows.max())}: expected 0 to {count - 1}")
    return rows


def region_bytes(size: int) -> int:
    """Bytes of one packed region mask."""
    return (size * size + 7) // 8


def save_columns(folder: Path, table: LabelTable) -> None:
    """Writes the label columns of `table` as .npy files."""
    np.save(folder / "keys.npy", table.keys.astype(np.str_), allow_pickle=False)
    np.save(folder / "split.npy", table.split.astype(np.int8), allow_pickle=False)
    rows = np.stack(list(table.attributes.values())) if table.attributes else np.zeros((0, 0))
    np.save(folder / "attributes.npy", rows.astype(np.int32), allow_pickle=False)
    if table.person is not None:
        np.save(folder / "person.npy", table.person.astype(np.int64), allow_pickle=False)
    if table.landmarks is not None:
        np.save(folder / "landmarks.npy", table.landmarks.astype(np.float32), allow_pickle=False)


def load_columns(folder: Path) -> dict[str, np.ndarray]:
    """Column name -> array, for the columns that are there."""
    paths = {name: folder / f"{name}.npy" for name in _COLUMNS}
    return {name: np.load(path) for name, path in paths.items() if path.exists()}


def block_digest(images: np.ndarray, packed_regions: np.ndarray | None) -> str:
    """SHA-256 (hex) of one block of pictures and their packed regions."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    if packed_regions is not None:
        digest.update(np.ascontiguousarray(packed_regions).data)
    return digest.hexdigest()


def store_checksum(block_digests: list[str], folder: Path) -> str:
    """SHA-256 (hex) over the digests of all blocks, in order, and the label columns."""
    digest = hashlib.sha256("".join(block_digests).encode())
    for name, column in load_columns(folder).items():
        digest.update(f"/{name}/{column.dtype}/{column.shape}/".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


class ArrayStore:
    """Pictures `[N, S, S, 3]` uint8 and, optionally, regions `[N, S, S]` bool, as `Pixels`.

    Raises:
        UsageError: another shape or dtype.
    """

    def __init__(self, images: np.ndarray, regions: np.ndarray | None = None) -> None:
        shape = images.shape
        if images.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise UsageError(f"images: expected [N, S, S, 3] uint8, got {images.dtype} {shape}")
        if regions is not None and regions.shape != shape[:3]:
            raise UsageError(f"regions: expected shape {shape[:3]}, got {regions.shape}")
        self._images, self._regions = images, regions
        self.size, self.has_regions = int(shape[1]), regions is not None

    def __len__(self) -> int:
        return len(self._images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the pictures."""
        return hashlib.sha256(np.ascontiguousarray(self._images).data).hexdigest()

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Copies the pictures of `rows` ([n] int64 in [0, N)): `[n, S, S, 3]` uint8."""
        return self._images[check_rows(rows, len(self))]

    def regions(self, rows: np.ndarray) -> np.ndarray:
        """The true sensitive regions of `rows`: `[n, S, S]` bool.

        Raises:
            RunError: there are none.
        """
        if self._regions is None:
            raise RunError("these arrays have no sensitive regions")
        return self._regions[check_rows(rows, len(self))].astype(bool)
