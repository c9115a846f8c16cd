"""One look for all charts: labels that can be read on a phone, colours that all tell apart."""

from __future__ import annotations

import io
from typing import Any

# Okabe and Ito's colours, which people with any colour vision tell apart; with dashes and markers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2",
    "#B35900",
    "#00795B",
    "#B03A00",
    "#8A3F6E",
    "#2878A8",
)
GREY, PALE = "#595959", "#F0F0F0"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 4.7


def canvas(height: float, rows: int = 1, **options: Any) -> tuple[Any, list[Any]]:
    """(figure, its axes from top to bottom), white, for a screen and for paper."""
    # Loaded here: it takes a second, and most calls want no picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=200, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, squeeze=False, **options).flat)
    for part in axes:
        part.spines[["top", "right"]].set_visible(False)
        part.grid(alpha=0.25)
        part.tick_params(labelsize=9)
    return figure, axes


def png(figure: Any) -> bytes:
    """The figure as a PNG, without the time and the program that made it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
