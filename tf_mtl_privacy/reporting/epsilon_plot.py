"""Epsilon over steps, as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting_summary import Summary


def epsilon_plot(summary: Summary) -> bytes:
    """PNG of the table: epsilon by PLD and RDP over steps."""
    # Loaded here: it takes a second, and most calls want no picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [0, *(point.steps for point in summary.points)]
    axes.plot(steps, [0, *(point.epsilon_rdp for point in summary.points)], "o--", label="RDP")
    axes.plot(steps, [0, *(point.epsilon_pld for point in summary.points)], "o-", label="PLD")
    noise = summary.phase.mechanism.noise_multiplier
    axes.set(
        xlabel="steps",
        ylabel=f"epsilon at delta {summary.delta:.3g}",
        title=f"noise multiplier {noise:.4g}, {summary.phase.mechanism.sampling} sampling",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
