"""Builds the ablation table from finished runs and formats it as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.ablations.rows import COMMON, ROWS
from experiments.runs import Run, finished
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.reporting.runs import SOURCES, figure_text, run_figures, spread

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
    """Returns the figures of each row.

    Args:
        plan: (row, run) of every row and seed.

    Returns:
        Row -> `flags`, `seeds` (number of finished runs), `figures` (name in `SOURCES` ->
        `spread`), `label_access` (union over its runs, or None if no run states it) and
        `underpowered` (True if the attackers of any run were too weak for a claim).
    """
    done = finished([run for _, run in plan])
    rows = {}
    for name in dict.fromkeys(name for name, _ in plan):
        results = [
            run_figures(done[run.name]) for row, run in plan if row == name and run.name in done
        ]
        access = [run.label_access for run in results if run.label_access is not None]
        rows[name] = {
            "flags": list(ROWS[name]),
            "seeds": len(results),
            "figures": {key: spread(run.figures[key] for run in results) for key in SOURCES},
            "label_access": sorted({text for texts in access for text in texts})
            if access
            else None,
            "underpowered": any(run.underpowered for run in results),
        }
    return rows


def ablation_markdown(rows: Mapping[str, Mapping[str, Any]], base: str, extra: str = "") -> str:
    """Returns the command of the rows, the table, and the list of label accesses.

    Args:
        rows: result of `ablation_table`.
        base: flagfile of every row.
        extra: flags appended to every row.
    """
    texts = dict.fromkeys(text for row in rows.values() for text in row["label_access"] or ())
    numbers = {text: f"({number})" for number, text in enumerate(texts, start=1)}
    header = ["row", "flags", *COLUMNS.values(), "label access"]
    lines = markdown_table(header, [_cells(name, row, numbers) for name, row in rows.items()])
    common = " ".join([f"--flagfile={base}", *COMMON])
    command = f"python -m tf_mtl_privacy.train {common} FLAGS {extra}".rstrip()
    intro = [
        f"Each row: `{command} --run_dir=RUN --probe=fast`.",
        "`up to` is the upper end of the 95 % interval of a probe; `!` marks attackers too weak "
        "for a claim. Several seeds: mean, smallest and largest value in brackets, and the highest "
        "upper end. Label access: methods that read private labels of training rows without "
        "being covered by epsilon.",
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
