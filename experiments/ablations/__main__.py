"""Ablation study: contribution and cost of each method that removes the private label.

    python -m experiments.ablations [--base=synthetic_small.cfg] [--only=name,..] [--seeds=1]
        [--runs=runs/ablations] [--json=FILE] [--list] [--table_only] [-- FLAGS OF TRAIN]

Trains the rows one after the other, resumably, and prints a Markdown table. Flags after `--` apply
to every row, for instance `-- --train_rows=4000 --adversarial_epochs=4`; use another --runs for
them. `--table_only` trains nothing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.ablations.rows import ROWS, row_flags
from experiments.ablations.table import ablation_markdown, ablation_table
from experiments.runs import (
    INTERRUPTED,
    Run,
    Train,
    check_base,
    exit_code,
    names,
    split_flags,
    trained,
)
from tf_mtl_privacy.files import write_json


def planned(
    rows: Sequence[str], base: str, runs: str, seeds: int, extra: Sequence[str] = ()
) -> list[tuple[str, Run]]:
    """Returns (row, run) of every row and seed; all rows of a seed come before the next seed."""
    plan = []
    for seed in range(seeds):
        for name in rows:
            flags = (f"--flagfile={base}", *row_flags(name), f"--seed={seed}", *extra)
            run_name = f"{name}-seed{seed}"
            plan.append((name, Run(run_name, Path(runs) / run_name, flags)))
    return plan


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Trains the rows and prints the table; returns 1 if a row failed, 130 if interrupted."""
    own, extra = split_flags(sys.argv[1:] if argv is None else argv)
    options = _options(own)
    if options.list:
        print("\n".join(f"{name:<26}{' '.join(ROWS[name])}".rstrip() for name in options.only))
        return 0
    plan = planned(options.only, options.base, options.runs, options.seeds, extra)
    failed = trained([run for _, run in plan], train, skip=options.table_only)
    if failed is None:
        return INTERRUPTED
    rows = ablation_table(plan)
    print(ablation_markdown(rows, options.base, shlex.join(extra)))
    if options.json:
        write_json(options.json, rows)
    return exit_code(failed)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablations", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--base", default="synthetic_small.cfg", help="flagfile of every row")
    parser.add_argument(
        "--only", default="", help="names of rows, separated by commas; default: all"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, .. of each row")
    parser.add_argument("--runs", default="runs/ablations", help="folder of the runs")
    parser.add_argument("--json", default="", help="output file for the figures")
    parser.add_argument(
        "--list", action="store_true", help="print the rows and their flags, then exit"
    )
    parser.add_argument("--table_only", action="store_true", help="train nothing")
    options = parser.parse_args(argv)
    options.only = names(parser, "only", options.only, ROWS) or list(ROWS)
    check_base(parser, options.base)
    if options.seeds < 1:
        parser.error(f"--seeds={options.seeds}: expected at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
