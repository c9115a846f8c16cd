"""What a run writes while it trains: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import METRICS_FILE
from tf_mtl_privacy.files import private_dir, write_atomic


class MetricsLogger:
    """Appends one line per epoch to `metrics.jsonl` and the same figures to TensorBoard.

    Args:
        run_dir: the run's folder.
        lines: how many lines the restored checkpoint knows; what a killed run wrote after it is
            dropped, so that no epoch stands twice.
    """

    def __init__(self, run_dir: Path, lines: int) -> None:
        self._path = run_dir / METRICS_FILE
        kept = self._path.read_text().splitlines()[:lines] if self._path.exists() else []
        write_atomic(self._path, "".join(line + "\n" for line in kept))
        self.lines = len(kept)
        folder = private_dir(run_dir / "tensorboard")
        self._writer = tf.summary.create_file_writer(str(folder))

    def epoch(self, phase: str, step: int, figures: Mapping[str, Any]) -> None:
        """Writes one epoch's figures; `step` counts the run's updates of all phases."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": phase, "step": step, **figures}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines += 1
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                if isinstance(value, int | float):
                    tf.summary.scalar(f"{phase}/{name}", value)
        self._writer.flush()

    def pictures(self, name: str, step: int, images: np.ndarray) -> None:
        """Shows pictures `[n, H, W, 3]`, uint8 or float32 in [0, 1], in TensorBoard."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, images, max_outputs=len(images))
        self._writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._writer.close()
