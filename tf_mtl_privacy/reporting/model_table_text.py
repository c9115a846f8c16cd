"""The table of models as text for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.reporting.formats import percent
from tf_mtl_privacy.reporting.layout import LABEL, WIDTH, fitted, wrapped
from tf_mtl_privacy.reporting.model_table_rows import (
    Row,
    access_lines,
    figure_rows,
    mask_lines,
    reduction_rows,
)

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
