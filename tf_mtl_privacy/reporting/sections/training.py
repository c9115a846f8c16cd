"""Section on training: curves, phases with their gates, the stop rule, and where figures come from.

Curves come from metrics.jsonl: validation figures by epoch, over all phases. The paper's Figure 2
is drawn from those of the joint phase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.config import METRICS_FILE, Config
from tf_mtl_privacy.config.renamed import with_new_names
from tf_mtl_privacy.evaluation.schema import Results
from tf_mtl_privacy.reporting.charts import Curve, Goal, Panel, Span, curves_chart, figure_2_chart
from tf_mtl_privacy.reporting.document import Block, Missing, Paragraph, Picture, Row, Table
from tf_mtl_privacy.reporting.formats import (
    MISSING,
    count,
    decibel,
    duration,
    metric,
    metric_name,
    percent,
)
from tf_mtl_privacy.reporting.model_table import PAPER
from tf_mtl_privacy.reporting.runs import ReportRun

_VALIDATION = "validation_"
_JOINT = "adversarial"
_RENAMED = {
    "privacy_balanced_accuracy": "in-loop discriminator, balanced",
    "fresh_probe_balanced_accuracy": "fresh attacker, balanced",
    "psnr_db": "PSNR",
}
_STATES = {
    "met": "met",
    "not_met": "NOT MET",
    "not_evaluated": "not evaluated",
    "off": "no gate set",
}
_CHANGE = "_change"
# Formats of curves that are not rates.
_UNITS: dict[str, Callable[[float], str]] = {"PSNR": decibel, "beta": "{:g}".format}


def training_blocks(run: ReportRun) -> Iterator[Block]:
    """Builds the blocks on training; figures are of validation images."""
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
                f"Training curves on validation images, first to last: {told}.{notes}",
                "Training on validation images, phase by phase. Short dashed lines are gates."
                f"{notes}",
            )
    else:
        yield Missing(f"training curves: the folder has no {METRICS_FILE}", why="train writes it")
    yield from training_tables(run.results, run.metrics)


def training_tables(results: Results, metrics: Sequence[Mapping[str, Any]] = ()) -> Iterator[Block]:
    """Phases with their gates, and the stop rule.

    Args:
        results: content of results.json.
        metrics: lines of metrics.jsonl, for the order of the phases.
    """
    training: Mapping[str, Any] = results.get("training") or {}
    gates = results.get("gates") or {}
    phases = training.get("phases") or {}
    order = [span.name for span in spans(metrics)]
    known = [*order, *gates, *phases]
    names = [name for name in dict.fromkeys(known) if phases.get(name) or gates.get(name)]
    rows = [Row((name, *_phase(phases.get(name)), *_gate(gates.get(name)))) for name in names]
    facts = []
    if training.get("steps") is not None:
        facts.append(f"{count(training['steps'])} steps")
    if training.get("seconds") is not None:
        facts.append(duration(training["seconds"]))
    if facts:
        yield Paragraph(f"Training took {' and '.join(facts)}.")
    if rows:
        header = ("phase", "epochs", "steps", "time", "gate", "reached", "state")
        yield Table("Phases and their gates, on validation images", header, tuple(rows))
    yield from _stop_rule(results)


def stop_rule_text(results: Results) -> str:
    """State of the stop rule; says so if the run has too few epochs for the paper's rule."""
    rule = results.get("stop_rule")
    if not rule:
        return "not evaluated"
    if rule["met"]:
        return "met"
    states = {name: part["status"] for name, part in rule["parts"].items()}
    missing = [name for name, state in states.items() if state == "not_evaluated"]
    unmet = [name for name, state in states.items() if state == "not_met"]
    short = _too_short(results) if missing and all(n.endswith(_CHANGE) for n in missing) else ""
    if short and not unmet:
        return (
            f"cannot be evaluated in full with this configuration: {short}; the other "
            f"{len(states) - len(missing)} parts are met"
        )
    if not missing:
        return "NOT MET"
    return f"NOT MET; {len(missing)} of {len(states)} parts not evaluated" + (
        f": {short}" if short else ""
    )


def unmet(results: Results) -> list[str]:
    """The gates and parts of the stop rule that were not met, each with its figure and bound."""
    rule = results.get("stop_rule")
    gates = [
        f"gate of phase {phase}: {metric_name(name)} {metric(name, gate['value'].get(name))} "
        f"(required ≥ {metric(name, goal)})"
        for phase, gate in (results.get("gates") or {}).items()
        if gate and gate["status"] == "not_met"
        for name, goal in gate["threshold"].items()
    ]
    parts = [
        f"stop rule: {metric_name(name)} {metric(name, part['value'])} (required "
        f"{_direction(name)} {metric(name, part['bound'])})"
        for name, part in (rule["parts"] if rule else {}).items()
        if part["status"] == "not_met"
    ]
    return [*gates, *parts]


def figure_2_blocks(run: ReportRun) -> Iterator[Block]:
    """The paper's Figure 2 with the run's own figures."""
    found = joint_curves(run.metrics)
    if not found:
        yield Missing("Figure 2", why="this run has no joint phase with validation figures")
        return
    paper = PAPER["mtl_adv_dp"]
    gender, privacy = percent(paper["gender"]), percent(paper["discriminator"])
    ends = [
        (f"paper, final gender: {gender}", paper["gender"]),
        (f"paper, final privacy label: {privacy}", paper["discriminator"]),
    ]
    yield Picture(
        "figure_2",
        figure_2_chart(found, ends, run.results["privacy"].get("chance")),
        f"Curves by epoch of the joint phase, first to last: {ends_text(found)}. The paper "
        f"ends at gender {gender} and privacy label {privacy}.",
        "Figure 2 of the paper with this run's figures. The paper's curves have no numbers, so "
        "only their final values are drawn (dashed).",
    )
    yield Paragraph(
        "The paper's privacy curve shows the in-loop discriminator; a freshly trained attacker may "
        "be far more accurate."
    )


def provenance_blocks(run: ReportRun) -> Iterator[Block]:
    """Data, commit, versions and hardware, then all options that differ from their defaults."""
    results = run.results
    rows = ((results.get("counts") or {}).get("rows") or {}).items()
    versions = (results.get("versions") or {}).items()
    facts = {
        "run folder": run.name,
        "model": f"{run.title}, seed {results.get('seed', MISSING)}",
        "data": f"{run.dataset}; images: {', '.join(f'{count(n)} {name}' for name, n in rows)}",
        "data fingerprint": run.figures.fingerprint[:16] or MISSING,
        "commit": _commit(results.get("commit")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions if version),
        "hardware": _hardware(results.get("hardware") or {}),
    }
    lines = tuple(Row(pair) for pair in facts.items())
    yield Table("Origin of these figures", ("", "value"), lines)
    defaults = Config().to_dict()
    options = tuple(
        Row((f"--{name}", str(value)))
        for section, values in with_new_names(results.get("config") or {}).items()
        for name, value in values.items()
        if value != (defaults.get(section) or {}).get(name)
    )
    if options:
        caption = "Options that differ from their defaults; config.json has all"
        yield Table(caption, ("option", "value"), options)


def _too_short(results: Results) -> str:
    """The reason why no run of this configuration can meet the change parts of the rule, or ''."""
    train = Config.from_dict(results.get("config") or {}).train
    if train.adversarial_epochs > train.stop_epochs:
        return ""
    return (
        f"the rule compares {train.stop_epochs} changes between joint epochs, and there are only "
        f"{train.adversarial_epochs} joint epochs"
    )


def _phase(part: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not part:
        return MISSING, MISSING, MISSING
    epochs = f"{part['epochs']} of {part['most_epochs']}"
    return epochs, count(part["steps"]), duration(part["seconds"])


def _gate(gate: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not gate:
        return MISSING, MISSING, MISSING
    asked = [f"{metric_name(n)} ≥ {metric(n, value)}" for n, value in gate["threshold"].items()]
    reached = [metric(name, gate["value"].get(name)) for name in gate["threshold"]]
    shown = ", ".join(asked) if gate["status"] != "off" else MISSING
    return shown, ", ".join(reached), _STATES[gate["status"]]


def _stop_rule(results: Results) -> Iterator[Block]:
    rule = results.get("stop_rule")
    if not rule:
        yield Paragraph("Stop rule: not evaluated in this run.")
        return
    rows = tuple(
        Row(
            (
                metric_name(name),
                f"{_direction(name)} {metric(name, part['bound'])}",
                metric(name, part["value"]),
                _STATES[part["status"]],
            )
        )
        for name, part in rule["parts"].items()
    )
    caption = f"Stop rule on validation images: {stop_rule_text(results)}"
    yield Table(caption, ("part", "required", "reached", "state"), rows)


def _direction(name: str) -> str:
    """The side of its bound on which a part of the stop rule has to be."""
    is_upper = name in ("privacy", "membership") or name.endswith(_CHANGE)
    return "≤" if is_upper else "≥"


def _commit(commit: Mapping[str, Any] | None) -> str:
    if not commit:
        return "unknown"
    return str(commit["hash"])[:12] + (", with local changes" if commit["dirty"] else "")


def _hardware(hardware: Mapping[str, Any]) -> str:
    if not hardware:
        return MISSING
    accelerators = ", ".join(hardware.get("accelerators") or ()) or "no accelerator"
    return (
        f"{hardware['cores']} cores of {hardware['cpu']}, {hardware['memory_gib']} GiB, "
        f"{accelerators}"
    )


def spans(metrics: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The phases in order, as ranges of epochs numbered from 1 over all phases."""
    found: list[Span] = []
    for number, line in enumerate(metrics, start=1):
        name = str(line["phase"])
        if found and found[-1].name == name:
            found[-1] = found[-1]._replace(last=number)
        else:
            found.append(Span(name, number, number))
    return found


def panels(metrics: Sequence[Mapping[str, Any]], gates: Mapping[str, Any]) -> list[Panel]:
    """Panels of accuracies, PSNR and beta, without empty ones."""
    several = [
        Panel("accuracy", _rates(metrics), _goals(metrics, gates, "accuracy"), is_rate=True),
        Panel("PSNR, dB", _curves(metrics, ["psnr_db"]), _goals(metrics, gates, "psnr_db")),
        Panel("beta", _curves(metrics, ["beta"], prefix=""), []),
    ]
    return [panel for panel in several if panel.curves]


def joint_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Gender (or the first task) and the in-loop discriminator, by joint epoch."""
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
    """First and last value of each curve."""
    parts = []
    for curve in curves:
        shown = _UNITS.get(curve.name, percent)
        first, last = shown(curve.values[0]), shown(curve.values[-1])
        parts.append(
            f"{curve.name} {last}" if len(curve.values) == 1 else f"{curve.name} {first} to {last}"
        )
    return "; ".join(parts)


def beta_text(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Changes of beta: `0.1 from epoch 1 of phase adversarial, 0.3 from ...`."""
    parts: list[str] = []
    last = None
    for line in metrics:
        if "beta" in line and line["beta"] != last:
            last = line["beta"]
            parts.append(f"{last:g} from epoch {line['epoch']} of phase {line['phase']}")
    return ", ".join(parts)


def gate_text(gates: Mapping[str, Any]) -> str:
    """Each gate with its threshold and state."""
    return "; ".join(
        f"{phase}: {figure_name(name)} ≥ {metric(name, goal)}, {gate['status'].replace('_', ' ')}"
        for phase, gate in gates.items()
        if gate and gate["status"] != "off"
        for name, goal in gate["threshold"].items()
    )


def figure_name(name: str) -> str:
    """A validation figure in words."""
    return _RENAMED.get(name, metric_name(name))


def _is_task(name: str) -> bool:
    return name.endswith("_accuracy") and not name.startswith(("privacy", "fresh", "region"))


def _names(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Validation figures, each once, in order of appearance."""
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
    """Gates on figures of one kind, each within its phase."""
    return [
        Goal(span, figure_name(name).removesuffix(" accuracy"), float(value))
        for span in spans(metrics)
        for name, value in ((gates.get(span.name) or {}).get("threshold") or {}).items()
        if name.endswith(ending) and gates[span.name].get("status") != "off"
    ]
