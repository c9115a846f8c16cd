"""The section on training: curves by phase with gates and beta, phases, the stop rule.

Curves of training out of metrics.jsonl: epochs, phases, gates; and the paper's Figure 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.config import METRICS_FILE
from tf_mtl_privacy.reporting.charts import Curve, Goal, Panel, Span, curves_chart, figure_2_chart
from tf_mtl_privacy.reporting.document import Block, Missing, Picture, Row, Table, Text
from tf_mtl_privacy.reporting.formats import (
    MISSING,
    count,
    decibel,
    duration,
    metric,
    metric_name,
    percent,
)
from tf_mtl_privacy.reporting.risk_reduction import PAPER
from tf_mtl_privacy.reporting.run_folder import ReportRun
from tf_mtl_privacy.reporting.training_lines import direction, state_words, stop_head

_VALIDATION = "validation_"
_JOINT = "adversarial"
_RENAMED = {
    "privacy_balanced_accuracy": "in-loop discriminator, balanced",
    "fresh_probe_balanced_accuracy": "fresh attacker, balanced",
    "psnr_db": "PSNR",
}
# Name of a curve that is no rate -> its values in words.
_UNITS: dict[str, Callable[[float], str]] = {"PSNR": decibel, "beta": "{:g}".format}


def spans(metrics: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The phases in order, as stretches of epochs that are counted through from 1."""
    found: list[Span] = []
    for number, line in enumerate(metrics, start=1):
        name = str(line["phase"])
        if found and found[-1].name == name:
            found[-1] = found[-1]._replace(last=number)
        else:
            found.append(Span(name, number, number))
    return found


def panels(metrics: Sequence[Mapping[str, Any]], gates: Mapping[str, Any]) -> list[Panel]:
    """Rates, restored images, the mask's area and beta, each as far as there is something of it."""
    several = [
        Panel("read right", _rates(metrics), _goals(metrics, gates, "accuracy"), is_rate=True),
        Panel("PSNR, dB", _curves(metrics, ["psnr_db"]), _goals(metrics, gates, "psnr_db")),
        Panel("beta", _curves(metrics, ["beta"], prefix=""), []),
    ]
    return [panel for panel in several if panel.curves]


def joint_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Gender (or the first task) and what the in-loop discriminator reads, by joint epoch."""
    lines = [line for line in metrics if str(line["phase"]).split("/")[-1] == _JOINT]
    tasks = [name for name in _names(lines) if _is_task(name)]
    first = [name for name in tasks if name == "gender_accuracy"] or tasks[:1]
    shown = [*first, "privacy_accuracy", "fresh_probe_balanced_accuracy"]
    words = {"privacy_accuracy": "in-loop discriminator"}
    return [
        curve._replace(name=words.get(name, curve.name))
        for name in shown
        for curve in _curves(lines, [name])
    ]


def ends_text(curves: Sequence[Curve]) -> str:
    """First and last value of each curve, in words."""
    parts = []
    for curve in curves:
        shown = _UNITS.get(curve.name, percent)
        first, last = shown(curve.values[0]), shown(curve.values[-1])
        parts.append(
            f"{curve.name} {last}" if len(curve.values) == 1 else f"{curve.name} {first} to {last}"
        )
    return "; ".join(parts)


def beta_text(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Where beta changed: `0.1, 0.3 from epoch 4 of adversarial`."""
    parts: list[str] = []
    last = None
    for line in metrics:
        if "beta" in line and line["beta"] != last:
            last = line["beta"]
            parts.append(f"{last:g} from epoch {line['epoch']} of {line['phase']}")
    return ", ".join(parts)


def gate_text(gates: Mapping[str, Any]) -> str:
    """Each gate with what it asked for."""
    return "; ".join(
        f"{phase}: {figure_name(name)} at least {metric(name, goal)}, {_state(gate['status'])}"
        for phase, gate in gates.items()
        if gate and gate["status"] != "off"
        for name, goal in gate["threshold"].items()
    )


def figure_name(name: str) -> str:
    """A figure of validation rows in words, such as stand without their phase."""
    return _RENAMED.get(name, metric_name(name))


def _state(status: str) -> str:
    return status.replace("_", " ")


def _is_task(name: str) -> bool:
    return name.endswith("_accuracy") and not name.startswith(("privacy", "fresh", "region"))


def _names(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Validation figures, each once, in the order in which they appear."""
    names = (key for line in metrics for key in line if key.startswith(_VALIDATION))
    return [name.removeprefix(_VALIDATION) for name in dict.fromkeys(names)]


def _rates(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    names = _names(metrics)
    shown = [name for name in names if _is_task(name)]
    shown += [name for name in _RENAMED if name in names and name != "psnr_db"]
    return _curves(metrics, shown)


def _curves(
    metrics: Sequence[Mapping[str, Any]], names: Sequence[str], prefix: str = _VALIDATION
) -> list[Curve]:
    found = []
    for name in names:
        points = [
            (number, float(line[prefix + name]))
            for number, line in enumerate(metrics, start=1)
            if line.get(prefix + name) is not None
        ]
        if points:
            epochs, values = zip(*points, strict=True)
            title = figure_name(name).removesuffix(" accuracy")
            found.append(Curve(title, list(epochs), list(values)))
    return found


def _goals(
    metrics: Sequence[Mapping[str, Any]], gates: Mapping[str, Any], ending: str
) -> list[Goal]:
    """Gates on figures of one kind, within their phases."""
    return [
        Goal(span, figure_name(name).removesuffix(" accuracy"), float(value))
        for span in spans(metrics)
        for name, value in ((gates.get(span.name) or {}).get("threshold") or {}).items()
        if name.endswith(ending) and gates[span.name].get("status") != "off"
    ]


def training_blocks(run: ReportRun) -> Iterator[Block]:
    """Makes the blocks on training, with figures of validation pictures."""
    gates = run.results.get("gates") or {}
    if run.metrics:
        charts = panels(run.metrics, gates)
        told = "; ".join(filter(None, (ends_text(panel.curves) for panel in charts)))
        beta, asked = beta_text(run.metrics), gate_text(gates)
        notes = f"{f' Beta: {beta}.' if beta else ''}{f' Gates: {asked}.' if asked else ''}"
        if charts:
            yield Picture(
                "training",
                curves_chart(charts, spans(run.metrics)),
                f"Curves of training on validation pictures, first to last: {told}.{notes}",
                "Training, phase after phase, on validation pictures. Short dashed lines are the "
                f"gates that had to be reached.{notes}",
            )
    else:
        yield Missing(
            f"Curves of training: the folder has no {METRICS_FILE}", why="training writes it"
        )
    yield from _phases(run)
    yield from _stop_rule(run)


def figure_2_blocks(run: ReportRun) -> Iterator[Block]:
    """The paper's Figure 2 with the run's own figures."""
    found = joint_curves(run.metrics)
    if not found:
        yield Missing("Figure 2", why="this run has no joint phase with validation figures")
        return
    paper = PAPER["mtl_adv_dp"]
    gender, read = percent(paper["gender"]), percent(paper["discriminator"])
    chance = run.results["privacy"].get("chance")
    ends = [
        (f"paper, gender at the end: {gender}", paper["gender"]),
        (f"paper, privacy label at the end: {read}", paper["discriminator"]),
    ]
    yield Picture(
        "figure_2",
        figure_2_chart(found, ends, chance),
        f"Curves by epoch of the joint phase, first to last: {ends_text(found)}. The paper "
        f"ends at gender {gender} and privacy label {read}.",
        "Figure 2 of the paper, with this run's figures. The paper prints its curves without "
        "numbers, so only where they end is drawn (dashed).",
    )
    yield Text(
        "The paper's privacy curve is of the discriminator within training; an attacker who is "
        "trained anew may read more than it."
    )


def _phases(run: ReportRun) -> Iterator[Table]:
    phases = ((run.results.get("training") or {}).get("phases")) or {}
    gates = run.results.get("gates") or {}
    rows = [
        Row(
            (
                name,
                f"{part['epochs']} of {part['most_epochs']}",
                count(part["steps"]),
                duration(part["seconds"]),
                *_gate(gates.get(name)),
            )
        )
        for name, part in sorted(phases.items(), key=lambda item: _order(run, item[0]))
    ]
    if rows:
        header = ("phase", "epochs", "steps", "time", "gate", "reached", "state")
        yield Table("Phases and their gates, on validation pictures", header, tuple(rows))


def _order(run: ReportRun, phase: str) -> int:
    names = [span.name for span in spans(run.metrics)]
    return names.index(phase) if phase in names else len(names)


def _gate(gate: dict | None) -> tuple[str, str, str]:
    if not gate:
        return MISSING, MISSING, MISSING
    asked = [f"{figure_name(n)} ≥ {metric(n, value)}" for n, value in gate["threshold"].items()]
    asked = asked if gate["status"] != "off" else [MISSING]
    reached = [metric(name, gate["value"].get(name)) for name in gate["threshold"]]
    return ", ".join(asked), ", ".join(reached), state_words(gate["status"])


def _stop_rule(run: ReportRun) -> Iterator[Block]:
    rule = run.results.get("stop_rule")
    if not rule:
        yield Text("The stop rule was not evaluated in this run.")
        return
    rows = tuple(
        Row(
            (
                metric_name(name),
                f"{direction(name)} {metric(name, part['bound'])}",
                metric(name, part["value"]),
                state_words(part["status"]),
            )
        )
        for name, part in rule["parts"].items()
    )
    yield Table(
        f"Stop rule on validation pictures: {stop_head(run.results)}",
        ("part", "asked for", "reached", "state"),
        rows,
    )
