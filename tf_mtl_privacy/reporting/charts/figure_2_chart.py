"""The paper's Figure 2 with a run's own figures: gender and the in-loop discriminator by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from tf_mtl_privacy.reporting.charts.canvas import COLOURS, GREY, MARKERS, canvas, png
from tf_mtl_privacy.reporting.charts.curves_chart import Curve


def figure_2_chart(
    curves: Sequence[Curve], ends: Sequence[tuple[str, float]], chance: float | None
) -> bytes:
    """PNG.

    Args:
        curves: rates in [0, 1] over joint epochs.
        ends: (name, rate) with which the paper's curves end; dashed.
        chance: of the private label, in [0, 1]; dotted.
    """
    figure, (axes,) = canvas(3.6)
    for number, curve in enumerate(curves):
        axes.plot(
            curve.epochs,
            curve.values,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=curve.name,
        )
    for number, (name, value) in enumerate(ends):
        axes.axhline(value, color=COLOURS[number], linestyle="--", linewidth=1.2, label=name)
    if chance is not None:
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1.2, label="chance")
    axes.set_ylim(-0.03, 1.04)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch of the joint phase", fontsize=9)
    axes.set_ylabel("validation pictures", fontsize=9)
    axes.legend(fontsize=8.5, loc="center right")
    return png(figure)
