"""A source in memory that counts what is read and can be slow or damaged."""

import threading
import time

import numpy as np

from tf_mtl_privacy.data.sources.base import LabelTable, Pictures


class MemorySource:
    """`count` noise pictures of 32x32; `damaged` maps a row to its reason."""

    name, size = "memory", 32

    def __init__(self, count, damaged=None, delay=0.0, has_regions=True, stop_at=None):
        generator = np.random.default_rng(3)
        self.pixels = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
        self.masks = generator.random((count, 32, 32)) < 0.2
        self.labels = generator.integers(-1, 2, count).astype(np.int32)
        self.damaged, self.delay, self.has_regions = damaged or {}, delay, has_regions
        self.stop_at, self.read_rows, self._lock = stop_at, [], threading.Lock()

    def fingerprint(self):
        return f"{len(self.pixels):064d}"

    def load(self):
        count = len(self.pixels)
        return LabelTable(
            keys=np.array([f"{k}.png" for k in range(count)]),
            split=(np.arange(count) % 3).astype(np.int8),
            attributes={"glad": self.labels, "wide": np.arange(count, dtype=np.int32) % 4},
            attribute_classes={"glad": ("no", "yes"), "wide": ("a", "b", "c", "d")},
            person=np.arange(count, dtype=np.int64) % 5,
            notes=("made of noise",),
        )

    def read(self, rows):
        time.sleep(self.delay)
        with self._lock:
            self.read_rows += rows.tolist()
        if self.stop_at is not None and self.stop_at in rows:
            raise KeyboardInterrupt
        images, reasons = self.pixels[rows].copy(), [self.damaged.get(int(r), "") for r in rows]
        images[[bool(reason) for reason in reasons]] = 0
        return Pictures(images, reasons, self.masks[rows] if self.has_regions else None)
