"""Charts as PNG: training curves, attacker accuracy, ROC, and epsilon over steps.

They share one look: labels that are legible on a phone, and colours, dashes and markers that can be
told apart with any colour vision.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting.statements import Point, Summary


# The colours of Okabe and Ito, safe for colour blindness.
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
    """(figure, its axes from top to bottom), on white, for screen and print."""
    # Imported here: it takes a second, and most commands draw nothing.
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
    """The figure as a PNG without metadata, so that equal figures give equal files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


class Curve(NamedTuple):
    """Values over epochs, numbered from 1 over all phases."""

    name: str
    epochs: list[int]
    values: list[float]


class Span(NamedTuple):
    """A phase: its first and last epoch."""

    name: str
    first: int
    last: int


class Goal(NamedTuple):
    """A gate: the value that a curve has to reach within a phase."""

    span: Span
    name: str
    value: float


class Panel(NamedTuple):
    """One pair of axes: curves of one unit and their gates."""

    label: str
    curves: list[Curve]
    goals: list[Goal]
    is_rate: bool = False


def curves_chart(panels: Sequence[Panel], spans: Sequence[Span]) -> bytes:
    """PNG of panels over a common epoch axis; phases are bands, gates are short dashed lines."""
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
    """Returns the points of a curve, with gaps between epochs that are not consecutive."""
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


def figure_2_chart(
    curves: Sequence[Curve], ends: Sequence[tuple[str, float]], chance: float | None
) -> bytes:
    """PNG of the paper's Figure 2 with a run's own curves.

    Args:
        curves: rates in [0, 1] over joint epochs.
        ends: (name, rate): final values of the paper's curves; dashed.
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
    axes.set_ylabel("validation images", fontsize=9)
    axes.legend(fontsize=8.5, loc="center right")
    return png(figure)


class Read(NamedTuple):
    """The leakage from one target; rates in [0, 1].

    Attributes:
        words: the target.
        accuracy: the highest accuracy of an attacker.
        ends: of the whisker.
        given: whether the run releases the target.
    """

    words: str
    accuracy: float
    ends: tuple[float, float]
    given: bool


def probe_chart(reads: Sequence[Read], chance: float, majority: float | None) -> bytes:
    """PNG with a bar per target and its upper bound; chance dashed, majority class dotted."""
    figure, (axes,) = canvas(0.9 + 0.34 * len(reads))
    for place, read in enumerate(reads):
        colour = BLUE if read.given else GREY
        errors = [[read.accuracy - read.ends[0]], [read.ends[1] - read.accuracy]]
        axes.barh(place, read.accuracy, color=colour, alpha=0.85 if read.given else 0.45)
        axes.errorbar(read.accuracy, place, xerr=errors, fmt="none", ecolor="black", capsize=3)
    axes.axvline(chance, color=RED, linestyle="--", linewidth=1.5, label="chance")
    if majority is not None and abs(majority - chance) > 0.02:
        axes.axvline(majority, color=GREY, linestyle=":", label="majority class")
    axes.set_yticks(range(len(reads)), [read.words for read in reads])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("attacker accuracy", fontsize=9)
    axes.legend(fontsize=8.5, loc="lower right")
    axes.grid(visible=False, axis="y")
    return png(figure)


_THIN, _THICK = 0.8, 2.4
_STYLES = ("-", "--", ":", "-.")


class Roc(NamedTuple):
    """One attack's curve.

    Attributes:
        group: legend entry; curves of one group look alike.
        fpr: false positive rates, in [0, 1] and rising; zeros cannot be drawn.
        tpr: true positive rates, likewise.
        chosen: whether the attack was chosen beforehand; it is drawn thick.
    """

    group: str
    fpr: Sequence[float]
    tpr: Sequence[float]
    chosen: bool = False


def roc_chart(curves: Sequence[Roc], low: float) -> bytes:
    """PNG of true over false positive rates on logarithmic axes.

    The left end matters most: there an attack identifies a few people with certainty (Carlini et
    al. 2022, "Membership Inference Attacks From First Principles").

    Args:
        curves: of all attacks; those not chosen are thin.
        low: start of both axes, in (0, 1).
    """
    figure, (axes,) = canvas(4.2)
    axes.plot([low, 1], [low, 1], "--", color=GREY, linewidth=1.2, label="chance")
    groups = list(dict.fromkeys(curve.group for curve in curves))
    named: set[str] = set()
    for curve in sorted(curves, key=lambda one: one.chosen):
        place = groups.index(curve.group)
        axes.plot(
            *zip(*_drawn(curve, low), strict=True),
            color=COLOURS[place % len(COLOURS)],
            linestyle="-" if curve.chosen else _STYLES[place % len(_STYLES)],
            linewidth=_THICK if curve.chosen else _THIN,
            label="" if curve.group in named else curve.group,
        )
        named.add(curve.group)
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.05))
    axes.set_xlabel("false positive rate", fontsize=9)
    axes.set_ylabel("true positive rate", fontsize=9)
    axes.legend(fontsize=8, loc="upper left", handlelength=1.6)
    return png(figure)


def _drawn(curve: Roc, low: float) -> list[Any]:
    pairs = zip(curve.fpr, curve.tpr, strict=True)
    points = [(false, max(true, low)) for false, true in pairs if false >= low]
    return points or [(1.0, 1.0)]


def epsilon_plot(summary: Summary) -> bytes:
    """PNG of a calculator's answer: epsilon by PLD and RDP over steps."""
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
        points: epsilon by number of steps, rising; 0 at the start.
        delta: of the epsilons.
        title: of the chart.
        spans: (name, first step, last step) of phases, drawn as bands.
        target: target epsilon, as a dotted line.
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
