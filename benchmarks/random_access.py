"""Random access to a prepared store: images/s in batches of 128 at 64x64.

`python benchmarks/random_access.py [--rows=N] [--folder=F]` prints the rate from disk and from
memory. It exits with 1 if the rate from memory is below the target of 20,000 images/s.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import Dataset, ShuffledEpochs
from tf_mtl_privacy.data.dataset import from_store
from tf_mtl_privacy.data.preparing import prepare_store
from tf_mtl_privacy.data.sources.base import LabelTable, Pictures
from tf_mtl_privacy.data.store import IMAGES, Store

BAR, BATCH, SIZE = 20_000, 128, 64


class Noise:
    """A data source of random pictures, which are fast to create; content does not affect time."""

    name, size, has_regions = "noise", SIZE, False

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def fingerprint(self) -> str:
        return f"{self._rows:016d}"

    def load(self) -> LabelTable:
        labels = np.arange(self._rows, dtype=np.int32) % 2
        classes = {name: ("0", "1") for name in ("gender", "age", "expression", "iris")}
        return LabelTable(
            keys=labels.astype(str),
            split=np.zeros(self._rows, np.int8),
            attributes=dict.fromkeys(classes, labels),
            attribute_classes=classes,
        )

    def read(self, rows: np.ndarray) -> Pictures:
        generator = np.random.default_rng(int(rows[0]))
        shape = (len(rows), SIZE, SIZE, 3)
        return Pictures(generator.integers(0, 256, shape, np.uint8), [""] * len(rows))


def rate(dataset: Dataset, seconds: float, seed: int) -> float:
    """Returns images/s in batches of shuffled rows, measured for about `seconds`."""
    order = ShuffledEpochs(dataset.rows["train"], BATCH, seed)
    order.batch(0, 0)
    images, started = 0, time.perf_counter()
    for step in range(order.steps_per_epoch):
        batch = dataset.batch(order.batch(0, step)[0])
        images += int(batch.mask.sum())
        if time.perf_counter() - started > seconds:
            break
    return images / (time.perf_counter() - started)


def drop_from_memory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folder", default=None, help="folder for the store; default: temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as cache:
        folder = Path(cache) / "noise"
        prepare_store(Noise(options.rows), folder, max_damaged=0.0)
        drop_from_memory(folder / IMAGES)
        cold = rate(from_store(Store(folder), DataConfig()), 3.0, 0)
        dataset = from_store(Store(folder), DataConfig())
        rate(dataset, 60.0, 1)  # reads everything once
        warm = max(rate(dataset, 3.0, seed) for seed in (2, 3, 4))
    print(f"store of {options.rows} images at {SIZE}x{SIZE}, shuffled batches of {BATCH}")
    print(f"first read from disk: {cold:>10,.0f} images/s")
    print(f"in memory:            {warm:>10,.0f} images/s")
    print(f"target:               {BAR:>10,} images/s: {'met' if warm >= BAR else 'MISSED'}")
    return 0 if warm >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
