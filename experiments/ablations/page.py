"""Writes the tables of docs/ablations.md from the kept files of docs/results/.

    python -m experiments.ablations.page [--page=docs/ablations.md] [--results=docs/results]
        [--check]

`<!-- table: NAME -->` at the end of a paragraph marks a table; the table that follows is replaced,
and all other text stays as it is. `--check` writes nothing; the exit code
is then 1 if the page differs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.ablations.rows import DESCRIPTIONS
from experiments.runs import one_line_errors, say
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import read_json, write_atomic
from tf_mtl_privacy.privacy.noise_record import NOISE
from tf_mtl_privacy.reporting.model_table import MODELS, PAPER
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.reporting.runs import DECIBEL, RATE, figure_text

ROOT = Path(__file__).resolve().parents[2]
# A marker at the end of a line, and the table that follows if there is one.
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(?:\n(?:\|.*\n)+)?")
_HEADER = ("gender", "age", "expression, F1", "PSNR", "D", "attacker on features", "on restored")


def percent(value: float) -> str:
    """Returns a rate in [0, 1] as reports of runs print it, `97.3 %`."""
    return figure_text(RATE, value)


def with_upper(value: float, upper: float) -> str:
    """Returns a rate and, in brackets, the upper end of its 95 % interval."""
    return f"{percent(value)} ({percent(upper).removesuffix(' %')})"


def decibels(value: float) -> str:
    """Returns a PSNR as reports of runs print it, `26.4 dB`."""
    return figure_text(DECIBEL, value)


def duration(seconds: float) -> str:
    """Returns seconds as minutes and seconds."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes} min {rest} s"


def ablations(results: Mapping[str, Any]) -> list[str]:
    """Returns the table of `ablations.json`, rows in the order of `DESCRIPTIONS`."""
    rows = []
    for name in _in_order(results["rows"]):
        figures = results["rows"][name]["figures"]
        rows.append(
            [
                f"`{name}`",
                DESCRIPTIONS[name],
                *(percent(figures[key]) for key in ("gender", "age", "expression_f1")),
                decibels(figures["psnr_db"]),
                percent(figures["discriminator"]),
                with_upper(figures["probe_features"], figures["probe_features_high"]),
                with_upper(figures["probe_restored"], figures["probe_restored_high"]),
            ]
        )
    return markdown_table(("row", "method", *_HEADER), rows)


def reader(results: Mapping[str, Any]) -> list[str]:
    """Returns the table of `reader.json`: games against a discriminator that reads."""
    rows = []
    for name in _in_order(results["rows"]):
        row = results["rows"][name]
        readings = (row[target] for target in ("discriminator", "features", "restored"))
        rows.append(
            [
                f"`{name}`",
                DESCRIPTIONS[name],
                *(percent(row[key]) for key in ("gender", "age", "expression_f1")),
                decibels(row["psnr_db"]),
                *(with_upper(reading["accuracy"], reading["ci95"][1]) for reading in readings),
            ]
        )
    return markdown_table(("row", "method", *_HEADER), rows)


def model_table(results: Mapping[str, Any]) -> list[str]:
    """Returns the table of `model_table.json`, with the figures of the paper in brackets."""
    models = {name: results["models"][name]["figures"] for name in MODELS}

    def row(title: str, cell: Callable[[str, Mapping[str, float]], str | None]) -> list[str]:
        return [title, *(cell(name, figures) or "" for name, figures in models.items())]

    def compared(title: str, key: str, text: Callable[[float], str] = percent) -> list[str]:
        def cell(name: str, figures: Mapping[str, float]) -> str | None:
            # STL has no discriminator here; the paper reports a figure for it all the same.
            paper = f"({text(PAPER[name][key])})" if key in PAPER.get(name, {}) else ""
            ours = text(figures[key]) if key in figures else ""
            return f"{ours} {paper}".strip()

        return row(title, cell)

    def attacked(title: str, key: str) -> list[str]:
        return row(
            title,
            lambda _, figures: (
                f"{percent(figures[key])} [{percent(figures[f'{key}_high']).removesuffix(' %')}]"
                if key in figures
                else None
            ),
        )

    # Files without the record were made with noise that was cut (docs/accounting.md).
    held = "" if results.get("noise") == NOISE else ": stated, does not hold"

    def epsilon(title: str, key: str) -> list[str]:
        title += held
        return row(title, lambda _, figures: f"{figures[key]:.2f}" if key in figures else None)

    rows = [
        compared("gender", "gender"),
        compared("age", "age"),
        compared("expression, F1", "expression_f1"),
        compared("restored images", "psnr_db", decibels),
        compared("in-loop D", "discriminator"),
        attacked("attacker on features", "probe_features"),
        attacked("attacker on restored images", "probe_restored"),
        epsilon("epsilon of D, conditional", "epsilon_conditional"),
        epsilon("epsilon of all released weights", "epsilon_released"),
        row("training", lambda _, figures: duration(figures["seconds"])),
    ]
    return markdown_table(("", *MODELS.values()), rows)


def frontier(results: Mapping[str, Any]) -> list[str]:
    """Returns the table of `frontier.json`; points at beta 0 appear once for all objectives."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for point in results["points"]:
        objective = f"`{point['objective']}`" if point["beta"] else "no game"
        key = (
            point["mask"],
            point["beta"] > 0,
            point["objective"] * (point["beta"] > 0),
            point["beta"],
        )
        rows[key] = [
            objective,
            f"{point['beta']:g}",
            "yes" if point["mask"] else "no",
            percent(point["gender"]),
            decibels(point["psnr_db"]),
            with_upper(point["probe"], point["ci95"][1]),
            percent(point["probe_restored"]),
        ]
    header = ("objective", "beta", "mask", "gender", "PSNR", "attacker on features", "on restored")
    return markdown_table(header, (rows[key] for key in sorted(rows)))


def mask_residue(results: Mapping[str, Any]) -> list[str]:
    """Returns the table of `mask_residue.json`, in levels of 255."""
    rows = [
        [title, *(f"{results[key][share]:.1f}" for share in ("p50", "p95", "p100"))]
        for title, key in (("in the picture", "picture_levels"), ("behind the mask", "seen_levels"))
    ]
    return markdown_table(("", "50 % of faces", "95 % of faces", "all faces"), rows)


TABLES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "ablations": ablations,
    "reader": reader,
    "model_table": model_table,
    "frontier": frontier,
    "mask_residue": mask_residue,
}


def filled(page: str, results: Path) -> str:
    """Returns the page with every table made anew.

    Args:
        page: text with markers.
        results: folder with `NAME.json` for every marked table.

    Raises:
        RunError: a marker names no table, or a file lacks a figure.
    """

    def table(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise RunError(f"table: {name}: no such table; expected some of {', '.join(TABLES)}")
        try:
            lines = TABLES[name](read_json(results / f"{name}.json"))
        except (KeyError, TypeError) as error:
            raise RunError(f"{results / name}.json: no {error}; use the kept file") from error
        return "\n".join([match[1], *lines, ""])

    return _MARKED.sub(table, page)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page, or compares it with --check; returns 1 if it then differs."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablations.page", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--page", default=str(ROOT / "docs" / "ablations.md"), help="the page")
    parser.add_argument(
        "--results", default=str(ROOT / "docs" / "results"), help="folder of the kept files"
    )
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    path = Path(options.page)
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--page={path}: {error.strerror}") from error
    after = filled(before, Path(options.results))
    if options.check:
        if before != after:
            say(f"{path}: differs from docs/results; run python -m experiments.ablations.page")
        return int(before != after)
    write_atomic(path, after.encode("utf-8"))
    say(f"wrote {path}")
    return 0


def _in_order(rows: Iterable[str]) -> list[str]:
    there = set(rows)
    return [name for name in DESCRIPTIONS if name in there]


if __name__ == "__main__":
    sys.exit(main())
