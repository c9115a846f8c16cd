"""Epsilon over steps, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_mtl_privacy.reporting.charts.canvas import BLUE, GREEN, GREY, ORANGE, PALE, canvas, png

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting_summary import Point, Summary


def epsilon_plot(summary: Summary) -> bytes:
    """PNG of the table: epsilon by PLD and RDP over steps."""
    noise = summary.phase.mechanism.noise_multiplier
    return epsilon_chart(
        summary.points,
        summary.delta,
        f"noise multiplier {noise:.4g}, {summary.phase.mechanism.sampling} sampling",
    )


def epsilon_chart(
    points: Sequence[Point],
    delta: float,
    title: str = "",
    spans: Sequence[tuple[str, int, int]] = (),
    target: float | None = None,
) -> bytes:
    """PNG of epsilon over steps.

    Args:
        points: epsilon after numbers of steps, rising; it is 0 before them.
        delta: for which it holds.
        title: above it.
        spans: (name, first step, last step) of phases, marked as bands.
        target: an epsilon that was to be kept, as a dashed line.
    """
    figure, (axes,) = canvas(3.7)
    for number, (name, first, last) in enumerate(spans):
        if number % 2 == 0:
            axes.axvspan(first, last, color=PALE, zorder=0)
        axes.annotate(
            name,
            ((first + last) / 2, 1.01),
            xycoords=("data", "axes fraction"),
            fontsize=8.5,
            ha="center",
            va="bottom",
            color=GREY,
        )
    steps = [0, *(point.steps for point in points)]
    rdp, pld = ([0.0, *(getattr(p, f"epsilon_{name}") for p in points)] for name in ("rdp", "pld"))
    axes.plot(steps, rdp, "s--", color=ORANGE, markersize=4, label="RDP, the looser bound")
    axes.plot(steps, pld, "o-", color=BLUE, markersize=4, label="PLD, the tighter bound")
    if target is not None:
        axes.axhline(target, color=GREEN, linestyle=":", label=f"target {target:g}")
    axes.set_xlabel("steps", fontsize=9)
    axes.set_ylabel(f"epsilon at delta {delta:.3g}", fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8.5, loc="lower right")
    return png(figure)
