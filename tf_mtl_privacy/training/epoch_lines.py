"""What is said of an epoch while training runs, in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tf_mtl_privacy.training.phase import Phase


def epoch_line(phase: Phase, epoch: int, figures: Mapping[str, float], seconds: float) -> str:
    """One epoch in one line: phase, epoch, validation figures, time."""
    return f"{phase.name} {epoch}/{phase.epochs}: {shown_figures(figures)} ({seconds:.0f} s)"


def shown_figures(figures: Mapping[str, float]) -> str:
    """Validation figures in one line."""
    shown = []
    for name, value in figures.items():
        if name == "psnr_db":
            shown.append(f"PSNR {value:.1f} dB")
        elif name == "privacy_balanced_accuracy":
            shown.append(f"in-loop discriminator {100 * value:.1f} %")
        elif name == "fresh_probe_balanced_accuracy":
            upper = figures.get("fresh_probe_upper")
            # Rounded up: a smaller figure would not be true.
            most = (
                "" if upper is None else f" (upper end {math.ceil(1000 * upper - 1e-9) / 10:.1f} %)"
            )
            shown.append(f"fresh attacker {100 * value:.1f} %{most}")
        elif name == "membership_success_rate":
            shown.append(f"membership inference {100 * value:.1f} %")
        elif name not in ("privacy_accuracy", "fresh_probe_upper"):
            shown.append(f"{name.removesuffix('_accuracy')} {100 * value:.1f} %")
    return ", ".join(shown)
