"""Rendering speed of synthetic faces at 64x64; the target is 1,000 images/s on two cores.

    python benchmarks/synthetic_speed.py

It prints the best of five calls with 2,000 images each, and exits with 1 if that misses the target.
"""

import os
import sys
import time

import numpy as np

from tf_mtl_privacy.data import synthetic_faces

BAR = 1000.0
IMAGES = 2000


def main() -> int:
    synthetic_faces.render(0, "train", np.arange(256), size=64)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        synthetic_faces.render(0, "train", np.arange(IMAGES), size=64)
        best = max(best, IMAGES / (time.perf_counter() - started))
    met = best >= BAR
    print(f"synthetic faces at 64x64, {os.cpu_count()} cores: {best:,.0f} images/s")
    print(f"target: {BAR:,.0f} images/s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
