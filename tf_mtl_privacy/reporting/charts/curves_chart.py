"""Training over epochs: all phases one after the other, with gates and beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.reporting.charts.canvas import COLOURS, GREY, MARKERS, PALE, canvas, png


class Curve(NamedTuple):
    """Values over epochs (their numbers from 1, in all phases together)."""

    name: str
    epochs: list[int]
    values: list[float]


class Span(NamedTuple):
    """A phase: its first and last epoch."""

    name: str
    first: int
    last: int


class Goal(NamedTuple):
    """A gate: what a curve had to reach within a phase."""

    span: Span
    name: str
    value: float


class Panel(NamedTuple):
    """One pair of axes: curves of one unit, and gates on them."""

    label: str
    curves: list[Curve]
    goals: list[Goal]
    is_rate: bool = False


def curves_chart(panels: Sequence[Panel], spans: Sequence[Span]) -> bytes:
    """PNG: panels over a common axis of epochs; the phases are bands, gates are short lines."""
    heights = [2.6 if len(panel.curves) > 2 else 1.35 for panel in panels]
    figure, several = canvas(sum(heights) + 0.9, len(panels), sharex=True, height_ratios=heights)
    for axes, panel in zip(several, panels, strict=True):
        _bands(axes, spans)
        _panel(axes, panel)
    _names(several[0], spans)
    several[-1].set_xlabel("epoch, all phases one after the other", fontsize=9)
    several[-1].xaxis.get_major_locator().set_params(integer=True)
    several[-1].set_xlim(0.5, max(span.last for span in spans) + 0.5)
    return png(figure)


def _bands(axes: Any, spans: Sequence[Span]) -> None:
    for number, span in enumerate(spans):
        if number % 2 == 0:
            axes.axvspan(span.first - 0.5, span.last + 0.5, color=PALE, zorder=0)


def _names(axes: Any, spans: Sequence[Span]) -> None:
    for span in spans:
        axes.annotate(
            span.name,
            ((span.first + span.last) / 2, 1.02),
            xycoords=("data", "axes fraction"),
            rotation=35,
            fontsize=8.5,
            ha="left",
            va="bottom",
        )


def _with_gaps(curve: Curve) -> tuple[list[float], list[float]]:
    """Its points, and nothing between two that are not of epochs after one another."""
    epochs: list[float] = []
    values: list[float] = []
    for epoch, value in zip(curve.epochs, curve.values, strict=True):
        if epochs and epoch > epochs[-1] + 1:
            epochs.append(float("nan"))
            values.append(float("nan"))
        epochs.append(epoch)
        values.append(value)
    return epochs, values


def _panel(axes: Any, panel: Panel) -> None:
    styles: Mapping[str, Any] = {
        curve.name: {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        for k, curve in enumerate(panel.curves)
    }
    for curve in panel.curves:
        axes.plot(
            *_with_gaps(curve),
            label=curve.name,
            markersize=4,
            linewidth=1.3,
            **styles[curve.name],
        )
    for goal in panel.goals:
        colour = styles.get(goal.name, {"color": GREY})["color"]
        ends = [goal.span.first - 0.5, goal.span.last + 0.5]
        axes.plot(ends, [goal.value] * 2, "--", color=colour, linewidth=1.6)
    axes.set_ylabel(panel.label, fontsize=9)
    if panel.is_rate:
        axes.set_ylim(-0.03, 1.04)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    if len(panel.curves) > 1:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.5), framealpha=0.9)
