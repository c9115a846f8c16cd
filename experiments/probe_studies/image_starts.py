"""Accuracy and cost of the network that attacks images, for several random starts.

    python -m experiments.probe_studies.image_starts [--starts=6] [--setting=fast] [--data_seed=1]
        [--tint=1] [--noise=0] [--json=FILE]

The attacker reads the irises of unchanged drawn faces, so the label is certainly present: a start
that stays at chance means that the attacker is weak. `--tint` below 1 and `--noise` make the label
fainter, as a restorer might. Rows and budget are those of the reference target `pixels` in the same
setting. Prints Markdown; the exit code is 1 if any start misses the bar of that reference.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.runs import one_line_errors, say
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import attack
from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS, ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.summary import PIXELS_BAR
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.reporting.results import commit, hardware, versions

ATTACKER = "softmax_pool_cnn_standardised"
COLUMNS = ("start", "validation", "test", "processor_seconds")
_CLASSES = 8
# Faces that each start is tested on.
TESTED = 1_000


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Attacks from each start, prints the table and counts the starts that reach the bar."""
    options = _options(sys.argv[1:] if argv is None else argv)
    data = pixels(options.data_seed, PROBE_BUDGETS[options.setting], options.tint, options.noise)
    results = starts(data, options)
    table = [[f"{row[name]:.3g}" for name in COLUMNS] for row in results]
    print("\n".join(markdown_table(COLUMNS, table)))
    learned = sum(row["test"] >= PIXELS_BAR for row in results)
    print(f"\n{learned} of {len(results)} starts read at least {100 * PIXELS_BAR:g} %")
    if options.json:
        asked = ("setting", "data_seed", "tint", "noise")
        about: dict[str, Any] = {name: getattr(options, name) for name in asked}
        about |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
        write_json(options.json, {**about, "starts": results})
    return 0 if learned == len(results) else 1


def pixels(data_seed: int, budget: ProbeBudget, tint: float = 1.0, noise: float = 0.0) -> ProbeData:
    """Returns training, validation and test faces of the reference target `pixels`.

    Args:
        data_seed: seed of the faces and of the noise.
        budget: numbers of faces.
        tint: factor in [0, 1] on the distance of each pixel from grey.
        noise: standard deviation of Gaussian noise added to pictures in [0, 1].
    """
    counts = (budget.image_rows, budget.validation_rows, TESTED)
    images, labels = attacker_faces(DataConfig(data_seed=data_seed), sum(counts))
    rows, ends = np.asarray(targets.pixels(images)), np.cumsum(counts)[:-1]
    grey = rows.mean(axis=-1, keepdims=True)
    drawn = np.random.default_rng(data_seed).standard_normal(rows.shape, dtype=np.float32)
    # Exactly the original pictures if tint is 1 and noise is 0.
    rows = rows - np.float32(1 - tint) * (rows - grey) + np.float32(noise) * drawn
    parts = zip(np.split(rows, ends), np.split(labels, ends), strict=True)
    return ProbeData(*(array for part in parts for array in part), _CLASSES)


def starts(data: ProbeData, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns one row of the table per start."""
    budget = dataclasses.replace(PROBE_BUDGETS[options.setting], restarts=1)
    table = []
    for number in range(options.starts):
        cpu = time.process_time()
        one = attack(data, [ATTACKER], attackers(), budget, number)[0]
        seconds, test = time.process_time() - cpu, one.test["balanced_accuracy"]
        row = {"start": number, "validation": one.validation, "test": test}
        table.append({**row, "processor_seconds": seconds})
        say(f"start {number}: {test:.3f}")
    return table


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.probe_studies.image_starts", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--starts", type=int, default=6, help="number of starts, at least 1")
    parser.add_argument(
        "--setting", default="fast", choices=PROBE_BUDGETS, help="budget of the attackers"
    )
    parser.add_argument("--data_seed", type=int, default=1, help="seed of the faces")
    parser.add_argument("--tint", type=float, default=1.0, help="factor on the colours, in [0, 1]")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation, pictures in [0, 1]"
    )
    parser.add_argument("--json", default="", help="output file for the figures")
    options = parser.parse_args(argv)
    if options.starts < 1:
        parser.error(f"--starts={options.starts}: expected at least 1")
    if not 0 <= options.tint <= 1:
        parser.error(f"--tint={options.tint:g}: expected a factor in [0, 1]")
    if not 0 <= options.noise <= 1:
        parser.error(f"--noise={options.noise:g}: expected a standard deviation in [0, 1]")
    return options


if __name__ == "__main__":
    sys.exit(main())
