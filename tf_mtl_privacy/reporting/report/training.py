"""The section on training: curves by phase with gates and beta, phases, the stop rule."""

from __future__ import annotations

from collections.abc import Iterator

from tf_mtl_privacy.config import METRICS_FILE
from tf_mtl_privacy.reporting.charts.curves_chart import curves_chart
from tf_mtl_privacy.reporting.charts.figure_2_chart import figure_2_chart
from tf_mtl_privacy.reporting.formats import MISSING, count, duration, metric, metric_name, percent
from tf_mtl_privacy.reporting.report import curves
from tf_mtl_privacy.reporting.report.document import Block, Missing, Picture, Row, Table, Text
from tf_mtl_privacy.reporting.report.run_folder import ReportRun
from tf_mtl_privacy.reporting.risk_reduction import PAPER
from tf_mtl_privacy.reporting.training_lines import direction, state_words, stop_head


def training_blocks(run: ReportRun) -> Iterator[Block]:
    """Makes the blocks on training, with figures of validation pictures."""
    gates = run.results.get("gates") or {}
    if run.metrics:
        panels = curves.panels(run.metrics, gates)
        told = "; ".join(filter(None, (curves.ends_text(panel.curves) for panel in panels)))
        beta, asked = curves.beta_text(run.metrics), curves.gate_text(gates)
        notes = f"{f' Beta: {beta}.' if beta else ''}{f' Gates: {asked}.' if asked else ''}"
        if panels:
            yield Picture(
                "training",
                curves_chart(panels, curves.spans(run.metrics)),
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
    found = curves.joint_curves(run.metrics)
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
        f"Curves by epoch of the joint phase, first to last: {curves.ends_text(found)}. The paper "
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
    names = [span.name for span in curves.spans(run.metrics)]
    return names.index(phase) if phase in names else len(names)


def _gate(gate: dict | None) -> tuple[str, str, str]:
    if not gate:
        return MISSING, MISSING, MISSING
    asked = [
        f"{curves.figure_name(n)} ≥ {metric(n, value)}" for n, value in gate["threshold"].items()
    ]
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
