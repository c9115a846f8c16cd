"""The ablation table out of finished runs, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ablations.rows import COMMON, ROWS
from experiments.runs import Run, finished
from tf_mtl_privacy.reporting.model_table_text import markdown_table
from tf_mtl_privacy.reporting.run_figures import SOURCES, figure_text, run_figures, spread

COLUMNS = {
    "gender": "gender",
    "age": "age",
    "expression_f1": "expression F1",
    "psnr_db": "PSNR",
    "discriminator": "in-loop D",
    "probe_features": "probe, features",
    "probe_restored": "restored",
    "probe_regions": "regions",
    "seconds": "time",
}
NOT_TRAINED = "not trained"


def ablation_table(plan: Sequence[tuple[str, Run]]) -> dict[str, dict[str, Any]]:
    """Row -> its figures.

    Args:
        plan: (row, run) of every row and seed.

    Returns:
        Row -> `flags`, `seeds` (how many of its runs are finished), `figures` (name in `SOURCES`
        -> `spread`), `label_access` (list of what any of its runs says, or None where none says
        anything) and `underpowered` (whether attackers of any run were too weak for a claim).
    """
    done = finished([run for _, run in plan])
    rows = {}
    for name in dict.fromkeys(name for name, _ in plan):
        found = [
            run_figures(done[run.name]) for row, run in plan if row == name and run.name in done
        ]
        access = [run.label_access for run in found if run.label_access is not None]
        rows[name] = {
            "flags": list(ROWS[name]),
            "seeds": len(found),
            "figures": {key: spread(run.figures[key] for run in found) for key in SOURCES},
            "label_access": sorted({text for texts in access for text in texts})
            if access
            else None,
            "underpowered": any(run.underpowered for run in found),
        }
    return rows


def ablation_markdown(rows: Mapping[str, Mapping[str, Any]], base: str, extra: str = "") -> str:
    """The table, what every row's command begins with, and what reads the private label.

    Args:
        rows: as `ablation_table` gives them.
        base: the flagfile of every row.
        extra: flags that every row got last.
    """
    texts = dict.fromkeys(text for row in rows.values() for text in row["label_access"] or ())
    numbers = {text: f"({number})" for number, text in enumerate(texts, start=1)}
    header = ["row", "flags", *COLUMNS.values(), "label access"]
    lines = markdown_table(header, [_cells(name, row, numbers) for name, row in rows.items()])
    common = " ".join([f"--flagfile={base}", *COMMON])
    command = f"python -m tf_mtl_privacy.train {common} FLAGS {extra}".rstrip()
    intro = [
        f"Each row: `{command} --run_dir=RUN --probe=fast`.",
        "After a probe's figure: the upper end of its 95 % interval; `!`: attackers too weak for a "
        "claim. Of several seeds the mean, in brackets the smallest and the largest, and the "
        "highest upper end. Label access: what reads the private labels of training rows outside "
        "of the accounting.",
    ]
    notes = [f"{number} {text}" for text, number in numbers.items()]
    return "\n".join([*intro, "", *lines, *([""] if notes else []), *(f"- {n}" for n in notes)])


def _cells(name: str, row: Mapping[str, Any], numbers: Mapping[str, str]) -> list[str]:
    flags = f"`{' '.join(row['flags'])}`" if row["flags"] else ""
    if not row["seeds"]:
        return [name, flags, NOT_TRAINED, *[""] * len(COLUMNS)]
    access = row["label_access"]
    reads = " ".join(numbers[text] for text in access or ()) or "empty"
    return [name, flags, *(_cell(k, row) for k in COLUMNS), "not said" if access is None else reads]


def _cell(key: str, row: Mapping[str, Any]) -> str:
    figures, unit = row["figures"][key], SOURCES[key].unit
    if figures["mean"] is None:
        return str(figures["absent"])
    text = figure_text(unit, figures["mean"])
    if figures["n"] > 1:
        low, high = (figure_text(unit, figures[end]) for end in ("min", "max"))
        text += f" ({low.split(' ')[0]}–{high})"
    upper = row["figures"].get(f"{key}_high")
    if upper is None or upper["max"] is None:
        return text
    return f"{text}, up to {figure_text(unit, upper['max'])}{' !' if row['underpowered'] else ''}"
