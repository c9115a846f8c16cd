"""Plots the privacy-utility frontier: accuracy of the strongest fresh attacker against utility."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

PANELS = {"gender": ("gender accuracy in %", 100), "psnr_db": ("PSNR of restored images in dB", 1)}
# Colours of Okabe and Ito, safe for colour-blind readers; markers repeat the distinction.
_LOOKS = {"confusion": ("#0072B2", "o"), "paper": ("#D55E00", "s")}
_OTHERS = (("#009E73", "^"), ("#CC79A7", "D"))
# Points closer than this share of an axis share a label.
_NEAR = 0.05


def frontier_plot(points: Sequence[Mapping[str, Any]], chance: float | None) -> bytes:
    """Returns a PNG with two panels: probe accuracy against gender accuracy, and against PSNR.

    Args:
        points: `objective`, `mask` (bool), `beta`, `gender`, `psnr_db`, `probe` (rates in [0, 1])
            and `ci95` of the probe; a point without a figure is left out of that panel.
        chance: accuracy of a random guess in [0, 1]; None draws no line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    looks = _looks(points)
    for axes, (name, (label, scale)) in zip(panels, PANELS.items(), strict=True):
        shown = [scale * p[name] for p in points if None not in (p[name], p["probe"])]
        near = _NEAR * (max(shown) - min(shown)) if shown else 0.0
        for (objective, mask), look in looks.items():
            series = sorted(
                (p for p in points if (p["objective"], p["mask"]) == (objective, mask)),
                key=lambda point: point["beta"],
            )
            drawn = [p for p in series if None not in (p[name], p["probe"])]
            _draw(axes, drawn, name, scale, look, near, objective == points[0]["objective"])
        if chance is not None:
            axes.axhline(100 * chance, color="#555555", linestyle=":", linewidth=1.2)
            axes.annotate(
                f"chance, {100 * chance:.1f} %",
                (0.01, 100 * chance),
                xycoords=("axes fraction", "data"),
                xytext=(0, -20),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
        axes.set(xlabel=label, ylim=(0, 100))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("strongest fresh attacker on features, accuracy in %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=max(1, len(labels)),
        title="beside the points: beta; bars: 95 % intervals",
        title_fontsize=9,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _looks(points: Sequence[Mapping[str, Any]]) -> dict[tuple[str, bool], dict[str, Any]]:
    """Returns (objective, mask) -> style of its line; hollow and dashed without the mask."""
    objectives = dict.fromkeys(point["objective"] for point in points)
    others = iter(_OTHERS * len(objectives))
    style = {name: _LOOKS.get(name) or next(others) for name in objectives}
    return {
        (name, mask): {
            "color": style[name][0],
            "marker": style[name][1],
            "linestyle": "-" if mask else "--",
            "markerfacecolor": style[name][0] if mask else "white",
            "label": f"{name}, {'mask' if mask else 'no mask'}",
        }
        for name in objectives
        for mask in (True, False)
        if any((p["objective"], p["mask"]) == (name, mask) for p in points)
    }


def _draw(
    axes: Any,
    points: Sequence[Mapping[str, Any]],
    name: str,
    scale: float,
    look: dict[str, Any],
    near: float,
    above: bool,
) -> None:
    x = [scale * point[name] for point in points]
    y = [100 * point["probe"] for point in points]
    ends = [point["ci95"] or (point["probe"], point["probe"]) for point in points]
    error = [
        [v - 100 * low for v, (low, _) in zip(y, ends, strict=True)],
        [100 * high - v for v, (_, high) in zip(y, ends, strict=True)],
    ]
    axes.errorbar(x, y, yerr=error, capsize=2, linewidth=1.2, markersize=6, **look)
    for first, last in _groups(list(zip(x, y, strict=True)), near):
        betas = [f"{points[k]['beta']:g}" for k in (first, last)]
        axes.annotate(
            betas[0] if first == last else "–".join(betas),
            (x[last], y[last]),
            xytext=(4, 6 if above else -12),
            textcoords="offset points",
            fontsize=7.5,
            color=look["color"],
        )


def _groups(places: Sequence[tuple[float, float]], near: float) -> list[tuple[int, int]]:
    """Returns (first, last) of neighbouring points that are too close for separate labels."""
    groups: list[tuple[int, int]] = []
    for k, (x, y) in enumerate(places):
        first = groups[-1][0] if groups else k
        if groups and abs(x - places[first][0]) < near and abs(y - places[first][1]) < _NEAR * 100:
            groups[-1] = (first, k)
        else:
            groups.append((k, k))
    return groups
