"""Receiver operating characteristic of membership inference, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.reporting.charts.canvas import COLOURS, GREY, canvas, png

_THIN, _THICK = 0.8, 2.4
_STYLES = ("-", "--", ":", "-.")


class Roc(NamedTuple):
    """One attack's curve.

    Attributes:
        group: what stands in the legend; curves of one group look alike.
        fpr: false positives, in [0, 1] and rising; zeros cannot be drawn.
        tpr: what is found, likewise.
        chosen: whether it is the one that was chosen beforehand, which is drawn thick.
    """

    group: str
    fpr: Sequence[float]
    tpr: Sequence[float]
    chosen: bool = False


def roc_chart(curves: Sequence[Roc], least: float) -> bytes:
    """PNG: the share of training pictures found over the share of false positives.

    Logarithmic, because an attack that is sure of a few people is the one that matters (Carlini
    and others 2022, "Membership inference attacks from first principles").

    Args:
        curves: every attack's; those that were not chosen are thin.
        least: where the axes begin, in (0, 1).
    """
    figure, (axes,) = canvas(4.2)
    axes.plot([least, 1], [least, 1], "--", color=GREY, linewidth=1.2, label="chance")
    groups = list(dict.fromkeys(curve.group for curve in curves))
    named: set[str] = set()
    for curve in sorted(curves, key=lambda one: one.chosen):
        place = groups.index(curve.group)
        axes.plot(
            *zip(*_drawn(curve, least), strict=True),
            color=COLOURS[place % len(COLOURS)],
            linestyle="-" if curve.chosen else _STYLES[place % len(_STYLES)],
            linewidth=_THICK if curve.chosen else _THIN,
            label="" if curve.group in named else curve.group,
        )
        named.add(curve.group)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false positives (share of other pictures)", fontsize=9)
    axes.set_ylabel("found (share of training pictures)", fontsize=9)
    axes.legend(fontsize=8, loc="upper left", handlelength=1.6)
    return png(figure)


def _drawn(curve: Roc, least: float) -> list[Any]:
    pairs = zip(curve.fpr, curve.tpr, strict=True)
    points = [(false, max(true, least)) for false, true in pairs if false >= least]
    return points or [(1.0, 1.0)]
