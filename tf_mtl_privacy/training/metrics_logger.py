"""Records and describes a run while it trains: metrics.jsonl, TensorBoard, progress lines."""

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
from tf_mtl_privacy.rounding import percent_up

# Phases and losses in words; files keep the names on the left.
_PHASES = {
    "business": "task classifier",
    "regions": "mask",
    "discriminator": "discriminator",
    "restorer": "restorer",
    "adversarial": "joint training",
}
_LOSSES = {
    "business_loss": "task loss",
    "discriminator_loss": "discriminator loss",
    "restoration_loss": "restoration loss",
    "adversarial_objective": "adversarial objective",
    "encoder_loss": "encoder loss",
    "reader_loss": "mask reader loss",
    "mask_confusion": "reader's distance from chance",
    "mask_area": "masked area",
}
_FIGURES = {
    "privacy_balanced_accuracy": "in-loop discriminator",
    "fresh_probe_balanced_accuracy": "fresh attacker",
    "membership_success_rate": "membership inference",
    "region_reader_accuracy": "mask reader",
    "mask_area": "masked area",
}
_NOT_SHOWN = ("privacy_accuracy", "fresh_probe_upper")


class MetricsLogger:
    """Appends one line per epoch to `metrics.jsonl` and the same figures to TensorBoard.

    Args:
        run_dir: the run's folder.
        lines: number of lines that belong to the restored checkpoint; lines that a killed run wrote
            after it are dropped, so that no epoch appears twice.
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
        """Shows images `[n, H, W, 3]`, uint8 or float32 in [0, 1], in TensorBoard."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, images, max_outputs=len(images))
        self._writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._writer.close()


def phase_label(name: str, epoch: int, epochs: int) -> str:
    """Names a phase and an epoch of it, counted from 1, in words."""
    return f"{phase_name(name)}, epoch {epoch} of {epochs}"


def phase_name(name: str) -> str:
    """Names a phase in words; the phases of registered removal methods keep their names."""
    return _PHASES.get(name, name)


def shown_losses(values: Mapping[str, float]) -> str:
    """Puts a step's mean losses in one line."""
    # Adding 0 turns a rounded -0 into 0.
    return ", ".join(
        f"{_LOSSES.get(name, name)} {round(value, 3) + 0.0:.3f}" for name, value in values.items()
    )


def shown_figures(figures: Mapping[str, float]) -> str:
    """Puts validation figures in one line."""
    shown = []
    for name, value in figures.items():
        if name in _NOT_SHOWN:
            continue
        if name == "psnr_db":
            shown.append(f"PSNR {value:.1f} dB")
            continue
        text = f"{_FIGURES.get(name, name.removesuffix('_accuracy'))} {100 * value:.1f} %"
        upper = figures.get("fresh_probe_upper")
        if name == "fresh_probe_balanced_accuracy" and upper is not None:
            text += f" (upper end {percent_up(upper)})"
        shown.append(text)
    return ", ".join(shown)
