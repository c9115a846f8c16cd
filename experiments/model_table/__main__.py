"""Trains the missing runs of the table of models, one after the other, and prints the table.

    python -m experiments.model_table [--runs=runs/table] [--seeds=1] [-- FLAGS OF TRAIN]

`make table` runs the same command. After an interruption, run it again to resume.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.runs import INTERRUPTED, Run, Train, exit_code, split_flags, trained
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.reporting.model_table import table_runs


def planned(runs: str, seeds: int, extra: Sequence[str] = ()) -> list[Run]:
    """Returns every run of the table, including the public backbone."""
    return [
        Run(run.folder(runs).name, run.folder(runs), (*run.flags(runs), *extra), run.probe)
        for run in table_runs(range(seeds))
    ]


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Trains the runs and prints the table; returns 1 if a run failed, 130 if interrupted."""
    own, extra = split_flags(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.model_table", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", default="runs/table", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, .. of each model")
    options = parser.parse_args(own)
    if options.seeds < 1:
        parser.error(f"--seeds={options.seeds}: expected at least 1")
    failed = trained(planned(options.runs, options.seeds, extra), train)
    if failed is None:
        return INTERRUPTED
    code = execute("report", ["--table", *(f"--{k}={v}" for k, v in vars(options).items())])
    return exit_code(failed) or code


if __name__ == "__main__":
    sys.exit(main())
