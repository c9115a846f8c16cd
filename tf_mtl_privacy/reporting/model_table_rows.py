"""The table of models as labelled rows of cells, one cell per model, for any layout.

The table of models as text for the terminal, and as Markdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.reporting.formats import LABEL, MISSING, WIDTH, fitted, percent, wrapped
from tf_mtl_privacy.reporting.mask_evidence import mask_line
from tf_mtl_privacy.reporting.model_table import COLUMNS
from tf_mtl_privacy.reporting.risk_reduction import MEASURES
from tf_mtl_privacy.reporting.run_figures import (
    DECIBEL,
    EPSILON,
    NOT_MEASURED,
    RATE,
    SOURCES,
    figure_text,
)

OUTSIDE = "reads labels outside"
_KINDS = {"relative": "", "above_chance": "beyond chance"}


class Row(NamedTuple):
    """One line: `level` is 0 for a figure, 1 for what says more about it."""

    label: str
    cells: list[str]
    level: int = 0


def figure_rows(table: Mapping[str, Any]) -> list[Row]:
    """Seeds, each figure with its spread and the paper's, and label access.

    Args:
        table: as `model_table.model_table` makes it.
    """
    models = list(table["models"].values())
    rows = [Row("seeds", [", ".join(map(str, part["seeds"])) or "not trained" for part in models])]
    for name in COLUMNS:
        source = SOURCES[name]
        found: Iterable[Row] = _spread_rows(
            source.title, source.unit, [part["figures"][name] for part in models]
        )
        if name.startswith(("probe_", "leakage")):
            found = [_marked(row, models, ("underpowered", "refused")) for row in found]
        elif name == "membership":
            found = [_marked(row, models, (name,)) for row in found]
        rows += found
        if any(name in part["paper"] for part in models):
            paper = [_paper(source.unit, part["paper"].get(name)) for part in models]
            rows.append(Row("paper", paper, 1))
    return [*rows, Row("label access", [access_text(part) for part in models])]


def _marked(row: Row, models: Sequence[Mapping[str, Any]], why: Sequence[str]) -> Row:
    """Marks figures on which no bound is claimed.

    Args:
        row: a row of figures.
        models: in the order of its cells.
        why: keys of a model, of which one then is not empty.
    """
    pairs = zip(row.cells, models, strict=True)
    return row._replace(
        cells=[
            f"{cell} !" if "%" in cell and any(part[key] for key in why) else cell
            for cell, part in pairs
        ]
    )


def reduction_rows(table: Mapping[str, Any], baseline: str) -> list[Row]:
    """By how much the risk of a baseline is reduced; beside the paper's own, which is against STL.

    Args:
        table: as `model_table.model_table` makes it.
        baseline: a key of `reductions.ours`.
    """
    models, reductions = list(table["models"]), table["reductions"]
    rows = []
    if baseline == "stl":
        for name, title in (
            ("discriminator", "paper: privacy label"),
            ("membership", "paper: membership"),
        ):
            for kind, word in _KINDS.items():
                found = [reductions["paper"].get(m, {}).get(name, {}).get(kind) for m in models]
                rows.append(
                    Row(word or title, [percent(value) for value in found], int(bool(word)))
                )
    ours = reductions["ours"][baseline]
    for name in next(iter(ours.values()), {}):
        for kind, word in _KINDS.items():
            found = [ours[model][name][kind] if model in ours else None for model in models]
            rows += _spread_rows(word or MEASURES[name].title, RATE, found, int(bool(word)))
    return rows


def access_lines(table: Mapping[str, Any]) -> list[str]:
    """Per model all that reads the private label outside of the accounting."""
    return [
        f"{part['title']} {OUTSIDE}: {'; '.join(part['label_access'])}"
        for part in table["models"].values()
        if part["label_access"]
    ]


def mask_lines(table: Mapping[str, Any]) -> list[str]:
    """Per model with a mask, whether it or the game makes the difference."""
    lines = (
        mask_line(part["title"], list(part["mask"].values())) for part in table["models"].values()
    )
    return [line for line in lines if line]


def access_text(model: Mapping[str, Any]) -> str:
    """What reads the private label outside of the accounting, short enough for a cell."""
    if model["label_access"] is None:
        return NOT_MEASURED
    return f"outside: {len(model['label_access'])}" if model["label_access"] else "empty"


def _spread_rows(
    label: str, unit: str, found: list[Mapping[str, Any] | None], level: int = 0
) -> Iterator[Row]:
    yield Row(label, [_mean(unit, figures) for figures in found], level)
    known = [figures for figures in found if figures and figures["n"] > 1]
    # An epsilon comes from the plan: it is the same for every seed, unless a phase ended early.
    if known and (unit != EPSILON or any(f["min"] != f["max"] for f in known)):
        yield Row("range over seeds", [_range(unit, figures) for figures in found], 1)
        yield Row("standard deviation", [_deviation(unit, figures) for figures in found], 1)


def _mean(unit: str, figures: Mapping[str, Any] | None) -> str:
    """The mean, or why there is none; with how many seeds have it, where not all have."""
    if figures is None:
        return MISSING
    if figures["mean"] is None:
        return str(figures["absent"])
    seeds = len(figures["values"])
    part = f" ({figures['n']}/{seeds})" if figures["n"] < seeds else ""
    return figure_text(unit, figures["mean"]) + part


def _range(unit: str, figures: Mapping[str, Any] | None) -> str:
    if figures is None or figures["n"] < 2:
        return MISSING
    low, high = (figure_text(unit, figures[end]) for end in ("min", "max"))
    return f"{low.split(' ')[0]}–{high}"


def _deviation(unit: str, figures: Mapping[str, Any] | None) -> str:
    """In the figure's own unit; of a rate in percentage points."""
    if figures is None or figures["std"] is None:
        return MISSING
    scale, word = {RATE: (100, " points"), DECIBEL: (1, " dB")}.get(unit, (1, ""))
    return f"{scale * figures['std']:.2f}{word}"


def _paper(unit: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:g}" if unit == EPSILON else figure_text(unit, value)


_CELL = 14
LEGEND = (
    "paper: its Tables 1 and 3, on CelebA; the others: test rows of synthetic faces. Not the same "
    "task.",
    "leakage and probe: the highest reading of all fresh attackers on the frozen networks, and the "
    "largest upper end; worst target: of everything that the run gives away. The in-loop "
    "discriminator's figure is not the leakage.",
    "membership inference: training pictures found at 5 % false positives by the attack of the "
    "run's audit that finds most; without an audit, what the stop rule measured.",
    "!: no bound is claimed for some seed; void: no epsilon holds; see the notes.",
    "epsilon, D conditional: of the discriminator's updates given the encoder's whole course; it "
    "says nothing of any weight as released. released: of all released weights together.",
    "label access: what reads the private labels of training rows outside of the accounting; empty "
    "is best. Labels of validation rows and of public faces are never in the accounting.",
    "reduction: (off - on) / off; beyond chance: (off - on) / (off - chance). The paper's chance "
    "is taken to be 12.5 %, for membership inference the 5 % that it calls a random guess. Fresh "
    "attackers are held against fresh attackers, the in-loop discriminator against the in-loop "
    "discriminator; STL has none.",
)


def model_table_text(table: Mapping[str, Any]) -> str:
    """`model_table.model_table` as text, at most 96 columns wide but for commands."""
    rule = "─" * WIDTH
    lines = [rule, _row(Row("", _titles(table))), rule, *map(_row, figure_rows(table)), rule]
    for title, rows in _reductions(table):
        lines += [title, *map(_row, rows), ""]
    lines = [*lines[:-1], rule, *wrapped([*LEGEND, *mask_lines(table), *access_lines(table)], 0)]
    if table["notes"]:
        lines += ["", "Notes", *wrapped(table["notes"], 2)]
    if table["missing"]:
        # Commands stay whole, however long, so that they can be copied.
        lines += ["", "Missing; `make table` trains them, one after the other:"]
        lines += [f"  {run['command']}" for run in table["missing"]]
    return "\n".join([*lines, rule])


def model_table_markdown(table: Mapping[str, Any]) -> str:
    """`model_table.model_table` as Markdown, for a page."""
    lines = markdown_table(["", *_titles(table)], _markdown_rows(figure_rows(table)))
    for title, rows in _reductions(table):
        lines += ["", *markdown_table([title, *_titles(table)], _markdown_rows(rows))]
    notes = [*LEGEND, *mask_lines(table), *access_lines(table), *table["notes"]]
    lines += ["", *(f"- {note}" for note in notes)]
    if table["missing"]:
        lines += ["", "Missing:", "", "```", *(run["command"] for run in table["missing"]), "```"]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _titles(table: Mapping[str, Any]) -> list[str]:
    return [part["title"] for part in table["models"].values()]


def _reductions(table: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """(title, rows) of each baseline."""
    claim = percent(table["reductions"]["claim"])
    titles = {"stl": f'Risk reduced against STL (the paper claims "{claim}")'}
    return [
        (
            titles.get(
                name, f"Risk reduced against {table['models'][name]['title']} (nothing removed)"
            ),
            reduction_rows(table, name),
        )
        for name in table["reductions"]["ours"]
    ]


def _row(row: Row) -> str:
    label = fitted("  " * row.level + row.label, LABEL - 1).ljust(LABEL)
    return (label + "".join(cell.rjust(_CELL) for cell in row.cells)).rstrip()


def _markdown_rows(rows: Iterable[Row]) -> list[list[str]]:
    return [["· " * row.level + row.label, *row.cells] for row in rows]
