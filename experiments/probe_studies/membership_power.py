"""Membership attacks on an overfitted reference run and, for comparison, on another run.

    python -m experiments.probe_studies.membership_power [--runs=runs/power] [--run_dir=RUN]
        [--rows=N]

Trains the architecture of synthetic.cfg without privacy on 1,000 rows until it overfits, attacks
it, then attacks the run in --run_dir in the same way, and prints both. A finished training is
reused. Only the membership part of the audit runs; results go to `membership.json` in --runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.runs import INTERRUPTED, Run, Train, exit_code, trained
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import private_dir, write_json

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.saved_run import SavedRun

# No game, no DP-SGD, many epochs over few rows; mask and networks as in synthetic.cfg.
MEMORISING = (
    "--flagfile=synthetic.cfg",
    "--model=mtl_adv",
    "--beta=0",
    "--beta_late=0",
    "--beta_step=0",
    "--train_rows=1000",
    "--validation_rows=500",
    "--test_rows=2000",
    "--batch_size=64",
    "--business_epochs=60",
    "--discriminator_epochs=1",
    "--restorer_epochs=2",
    "--adversarial_epochs=15",
    "--region_rows=6000",
    "--noearly_gates",
)
FILE = "membership.json"


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Trains, attacks and prints; returns 1 on a failure, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.probe_studies.membership_power",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--runs", default="runs/power", help="folder of the overfitted run")
    parser.add_argument("--run_dir", default="", help="a finished run to attack for comparison")
    parser.add_argument(
        "--rows", type=int, default=10_000, help="maximum number of members and of non-members"
    )
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    run = Run("memorising", Path(options.runs) / "memorising", MEMORISING, "none")
    failed = trained([run], train)
    if failed is None:
        return INTERRUPTED
    if failed:
        return exit_code(failed)
    folders = {"memorising": str(run.folder)}
    if options.run_dir:
        folders["run"] = options.run_dir
    try:
        result = {name: attacked(folder, options.rows) for name, folder in folders.items()}
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(private_dir(options.runs) / FILE, result)
    for name, figures in result.items():
        print(line(name, figures))
    return 0


def attacked(folder: str, rows: int) -> dict[str, Any]:
    """Returns the membership part of an audit, the accuracy on members, and the seconds taken.

    Args:
        folder: folder of a finished run.
        rows: maximum number of members and of non-members.
    """
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.evaluation.membership.run import MEMBERSHIP_BUDGETS
    from tf_mtl_privacy.evaluation.membership.saved import attack_run
    from tf_mtl_privacy.reporting.results import environment
    from tf_mtl_privacy.training.saved_run import load_run

    started = time.monotonic()
    run = load_run(folder)
    budget = dataclasses.replace(MEMBERSHIP_BUDGETS["thorough"], rows=rows, heads=4)
    budget = dataclasses.replace(budget, learners=("logistic", "trees"))
    dataset = open_dataset(run.config.data)
    result = attack_run(run, dataset, run.config.data, budget)
    about = {"seconds": round(time.monotonic() - started, 1), **environment()}
    return {**result.summary, "members_right": members_right(run, dataset, rows), **about}


def members_right(run: SavedRun, dataset: Dataset, rows: int) -> dict[str, float]:
    """Returns task -> accuracy in [0, 1] on the first `rows` training rows."""
    from tf_mtl_privacy.evaluation.probes.saved import networks
    from tf_mtl_privacy.evaluation.utility import utility
    from tf_mtl_privacy.training.inference import business_logits

    known = dataset.rows["train"][:rows]
    labels, right = dataset.labels_of(known).business, {}
    for bundle in networks(run).values():
        for task, logits in business_logits(bundle, dataset, known).items():
            right[task] = float(
                utility(logits, labels[task], dataset.task_classes[task])["accuracy"]
            )
    return right


def line(name: str, result: dict[str, Any]) -> str:
    """Returns one line about the strongest attack on a run."""
    best, data = result["strongest"], result["data"]
    at = best["tpr_at_fpr"]["0.05"]
    return (
        f"{name}: {best['attack']} on {best['target']}: TPR {at['value']:.1%} at 5 % FPR "
        f"({at['ci95'][0]:.1%} to {at['ci95'][1]:.1%}), AUC {best['auc']:.3f}; "
        f"{data['members']:,} members, {data['non_members']:,} non-members, half of each to choose "
        f"the attack; accuracy on members at least {min(result['members_right'].values()):.1%} in "
        f"each task; {result['seconds']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
