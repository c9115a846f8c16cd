"""Accuracy and cost of fast and thorough attackers on the features of one run.

    python -m experiments.probe_studies.probe_power --run_dir=RUN [--only=knn_whitened,..]
        [--restarts=N] [--settings=fast,thorough] [--trained_on=unseen,own] [--faces=N] [--seed=N]
        [--json=FILE]

Use a run whose features still contain the private label (no mask, no game); there the fast setting
should come within 5 points of the thorough one. Each setting uses its own numbers of training and
validation rows, of unseen rows or of the run's own training rows. Both are tested on the test rows
of the run or, with --faces=N, on N further unseen faces, which separates a small effect from
chance. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

from experiments.runs import names, one_line_errors, say
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import attack
from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS, ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import AttackRows, Labelled, own_rows, unseen_rows
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.summary import KINDS, UNSEEN
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.training.saved_run import SavedRun, load_run

# Attackers that need the discriminator of the run.
OF_DISCRIMINATOR = ("discriminator", "discriminator_final")
COLUMNS = (
    "setting",
    "attacker",
    "trained_on",
    "rows",
    "validation",
    "test",
    "seconds",
    "processor_seconds",
)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Attacks, prints the table and the gap between the strongest attackers of the settings."""
    options = _options(sys.argv[1:] if argv is None else argv)
    run = load_run(options.run_dir)
    without = [name for name in options.only if name in OF_DISCRIMINATOR]
    if without and run.bundle.discriminator is None:
        raise UsageError(f"--only={without[0]}: the run has no discriminator; leave it out")
    dataset = open_dataset(run.config.data)
    results = [row for name in options.settings for row in readings(options, run, dataset, name)]
    table = [[_text(row[name]) for name in COLUMNS] for row in results]
    print("\n".join(markdown_table(COLUMNS, table)))
    best = {name: strongest(results, name) for name in options.settings}
    if len(best) > 1:
        apart = max(best.values()) - min(best.values())
        print(f"\nstrongest by validation rows: {100 * apart:.1f} points apart on test rows")
    if options.json:
        write_json(
            options.json, {"run_dir": options.run_dir, "readings": results, "strongest": best}
        )
    return 0


def readings(
    options: argparse.Namespace, run: SavedRun, dataset: Dataset, name: str
) -> list[dict[str, Any]]:
    """Returns one row of the table per attacker of a setting."""
    seed = run.config.train.seed if options.seed is None else options.seed
    budget = PROBE_BUDGETS[name]
    if options.restarts:
        budget = dataclasses.replace(budget, restarts=options.restarts)
    test, table = dataset.rows["test"], []
    for kind in options.trained_on:
        rows = (
            unseen_rows(dataset, run.config.data, test, budget, seed)
            if kind == UNSEEN
            else own_rows(dataset, test, budget, seed)
        )
        if isinstance(rows, str):
            raise RunError(f"--run_dir={options.run_dir}: --trained_on={kind}: {rows}")
        table += _of_rows(options, run, dataset, rows, budget, seed, kind)
    return table


def _of_rows(
    options: argparse.Namespace,
    run: SavedRun,
    dataset: Dataset,
    rows: AttackRows,
    budget: ProbeBudget,
    seed: int,
    kind: str,
) -> list[dict[str, Any]]:
    """Returns the rows of `readings` for attackers trained on one kind of rows."""
    name = budget.name
    if options.faces:
        rows = rows._replace(test=further_faces(run.config.data, budget, options.faces))
    classes = len(dataset.private_classes)
    data = targets.picture_rows(targets.features(run.bundle.encoder), rows, classes)
    table = []
    for attacker in options.only or budget.features:
        started, cpu = time.perf_counter(), time.process_time()
        known = attackers(run.bundle.discriminator)
        reading = attack(data, [attacker], known, budget, seed)[0]
        table.append(
            {
                "setting": name,
                "attacker": reading.name,
                "trained_on": kind,
                "rows": len(data.train),
                "validation": reading.validation,
                "test": reading.test["balanced_accuracy"],
                "ci95": reading.test["ci95"],
                "seconds": time.perf_counter() - started,
                "processor_seconds": time.process_time() - cpu,
            }
        )
        say(f"{name} {attacker}: {reading.test['balanced_accuracy']:.3f}")
    return table


def further_faces(data: DataConfig, budget: ProbeBudget, count: int) -> Labelled:
    """Returns the `count` faces that follow the attackers' training and validation faces."""
    images, labels = attacker_faces(data, budget.rows + budget.validation_rows + count)
    images, labels = images[-count:], labels[-count:]
    return Labelled(images[labels >= 0], labels[labels >= 0])


def strongest(results: Sequence[dict[str, Any]], name: str) -> float:
    """Returns the test accuracy of the attacker of a setting with the best validation accuracy."""
    own = [row for row in results if row["setting"] == name]
    return float(max(own, key=lambda row: row["validation"])["test"])


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.probe_studies.probe_power", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run_dir", required=True, help="a finished run")
    parser.add_argument("--only", default="", help="attackers, separated by commas; default: all")
    parser.add_argument("--settings", default="fast,thorough", help="separated by commas")
    parser.add_argument(
        "--trained_on", default=UNSEEN, help="kinds of attacker rows, separated by commas"
    )
    parser.add_argument(
        "--restarts", type=int, default=0, help="random starts; 0: as in the setting"
    )
    parser.add_argument("--faces", type=int, default=0, help="test on this many further faces")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of the starts; default: of the run"
    )
    parser.add_argument("--json", default="", help="output file for the figures")
    options = parser.parse_args(argv)
    options.only = names(parser, "only", options.only, (*attackers(), *OF_DISCRIMINATOR))
    options.trained_on = names(parser, "trained_on", options.trained_on, KINDS)
    options.settings = names(parser, "settings", options.settings, PROBE_BUDGETS)
    return options


if __name__ == "__main__":
    sys.exit(main())
