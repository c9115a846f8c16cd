"""Draws what fresh attackers read, beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tf_mtl_privacy.reporting.charts.canvas import BLUE, GREY, RED, canvas, png


class Read(NamedTuple):
    """The figures of one target, rates in [0, 1].

    Attributes:
        words: the target.
        accuracy: the highest reading.
        ends: of the whisker.
        given: whether the run gives the target away.
    """

    words: str
    accuracy: float
    ends: tuple[float, float]
    given: bool


def probe_chart(reads: Sequence[Read], chance: float, majority: float | None) -> bytes:
    """PNG: a line per target, with its interval; dashed, chance and the most frequent class."""
    figure, (axes,) = canvas(0.9 + 0.34 * len(reads))
    for place, read in enumerate(reads):
        colour = BLUE if read.given else GREY
        errors = [[read.accuracy - read.ends[0]], [read.ends[1] - read.accuracy]]
        axes.barh(place, read.accuracy, color=colour, alpha=0.85 if read.given else 0.45)
        axes.errorbar(read.accuracy, place, xerr=errors, fmt="none", ecolor="black", capsize=3)
    axes.axvline(chance, color=RED, linestyle="--", linewidth=1.5, label="chance")
    if majority is not None and abs(majority - chance) > 0.02:
        axes.axvline(majority, color=GREY, linestyle=":", label="most frequent class")
    axes.set_yticks(range(len(reads)), [read.words for read in reads])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("read right", fontsize=9)
    axes.legend(fontsize=8.5, loc="lower right")
    axes.grid(visible=False, axis="y")
    return png(figure)
