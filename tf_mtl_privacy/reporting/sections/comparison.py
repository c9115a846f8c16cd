"""The section that puts other runs beside the run."""

from __future__ import annotations

from collections.abc import Sequence

from tf_mtl_privacy.data.fingerprints import OTHER_KEYS, same_data
from tf_mtl_privacy.evaluation.membership.verdict import INVALID, NO_POWER
from tf_mtl_privacy.reporting.document import Row, Table
from tf_mtl_privacy.reporting.formats import MISSING
from tf_mtl_privacy.reporting.mask_evidence import mask_line
from tf_mtl_privacy.reporting.model_table_rows import access_text
from tf_mtl_privacy.reporting.run_figures import DECIBEL, RATE, SOURCES, Figure, figure_text
from tf_mtl_privacy.reporting.run_folder import ReportRun


def comparison_table(runs: Sequence[ReportRun]) -> Table:
    """A column per run; the first is the run that the report is about."""
    first = runs[0]
    rows = [
        Row(("model", *(run.title for run in runs))),
        Row(("seed", *(str(run.results.get("seed", MISSING)) for run in runs))),
        Row(("data", *(run.dataset for run in runs))),
        *(
            Row((source.title, *(_cell(run, first, name) for run in runs)))
            for name, source in SOURCES.items()
        ),
        Row(("reads labels outside", *(_access(run) for run in runs))),
    ]
    return Table(
        "This run and others",
        ("", *names(runs)),
        tuple(rows),
        tuple(_notes(runs)),
    )


def names(runs: Sequence[ReportRun]) -> list[str]:
    """Their folders' names, or whole paths where two have the same."""
    short = [run.name for run in runs]
    return [
        name if short.count(name) == 1 else str(run.folder)
        for name, run in zip(short, runs, strict=True)
    ]


def _cell(run: ReportRun, first: ReportRun, name: str) -> str:
    figure, unit = run.figures.figures[name], SOURCES[name].unit
    if figure.value is None:
        return figure.absent
    weak = name.startswith(("probe_", "leakage")) and (
        run.figures.refused or run.figures.underpowered
    )
    unshown = name == "membership" and run.figures.membership == NO_POWER
    shown = figure_text(unit, figure.value) + (" !" if weak or unshown else "")
    return shown if run is first else shown + _difference(unit, figure, first.figures.figures[name])


def _difference(unit: str, figure: Figure, other: Figure) -> str:
    """By how much it differs from the first run's, in points or dB."""
    if figure.value is None or other.value is None or unit not in (RATE, DECIBEL):
        return ""
    scale, word = (100, "") if unit == RATE else (1, " dB")
    return f" ({scale * (figure.value - other.value):+z.1f}{word})"


def _access(run: ReportRun) -> str:
    access = run.figures.label_access
    return access_text({"label_access": None if access is None else list(access)})


def _notes(runs: Sequence[ReportRun]) -> list[str]:
    pairs = list(zip(names(runs), runs, strict=True))
    notes = [f"In brackets the difference from {names(runs)[0]}, for rates in percentage points."]
    same = same_data(run.figures.fingerprint for run in runs)
    if same is None:
        notes.append(f"It cannot be told if these runs are on the same data: {OTHER_KEYS}.")
    elif not same:
        notes.append("THE RUNS ARE NOT ON THE SAME DATA (evaluated_on.data_fingerprint differs).")
    notes += filter(None, (mask_line(name, [run.figures.mask]) for name, run in pairs))
    notes += [
        f"! No bound is claimed on what attackers of {name} read: "
        f"{'; '.join(dict.fromkeys([*run.figures.refused, *run.figures.underpowered]))}."
        for name, run in pairs
        if run.figures.refused or run.figures.underpowered
    ]
    notes += [
        f"No epsilon of {name} holds: {run.figures.void}."
        for name, run in pairs
        if run.figures.void
    ]
    unshown = [name for name, run in pairs if run.figures.membership == NO_POWER]
    if unshown:
        notes.append(
            f"! Nothing shows that membership attacks could have found more: {', '.join(unshown)}."
        )
    invalid = [name for name, run in pairs if run.figures.membership == INVALID]
    if invalid:
        notes.append(
            "Not measured, as members and others differ without any model: membership inference "
            f"of {', '.join(invalid)}."
        )
    return notes
