"""Pictures in memory, read like a store on disk."""

from __future__ import annotations

import hashlib

import numpy as np

from tf_mtl_privacy.data.store import check_rows
from tf_mtl_privacy.errors import RunError, UsageError


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
