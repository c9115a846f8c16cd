"""Receiver operating characteristic of membership inference, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.reporting.charts.canvas import COLOURS, GREY, MARKERS, canvas, png


def roc_chart(curves: Mapping[str, Mapping[str, Sequence[float]]], least: float) -> bytes:
    """PNG: the share of training pictures found over the share of false alarms.

    Logarithmic, because an attack that is sure of a few people is the one that matters (Carlini
    and others 2022, "Membership inference attacks from first principles").

    Args:
        curves: name -> `fpr` and `tpr`, both in [0, 1] and rising; zeros cannot be drawn.
        least: where the axes begin, in (0, 1).
    """
    figure, (axes,) = canvas(4.2)
    axes.plot([least, 1], [least, 1], "--", color=GREY, linewidth=1.2, label="a guess")
    for number, (name, curve) in enumerate(curves.items()):
        points = _drawn(curve, least)
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=max(1, len(points) // 6),
            markersize=4,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false alarms (share of other pictures)", fontsize=9)
    axes.set_ylabel("found (share of training pictures)", fontsize=9)
    axes.legend(fontsize=8.5, loc="upper left")
    return png(figure)


def _drawn(curve: Mapping[str, Sequence[float]], least: float) -> list[Any]:
    pairs = zip(curve["fpr"], curve["tpr"], strict=True)
    points = [(false, max(true, least)) for false, true in pairs if false >= least]
    return points or [(1.0, 1.0)]
