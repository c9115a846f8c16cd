"""Whether the network that attacks images learns from every random start, and what it costs.

    python -m benchmarks.image_starts [--starts=6] [--setting=fast] [--data_seed=1] [--tint=1]
        [--noise=0] [--json=FILE]

It reads the irises of drawn faces as they are, which are there to be read: a start that stays at
chance says that the attacker is weak, and nothing of the faces. With a tint below 1 and with noise
there is less to read, as a restorer might leave it. Rows and effort are those of the reference
`pixels` of the setting, tested on as many faces as there. Prints Markdown; exit code 1 where any
start misses the bar of that reference.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.runs import say, told
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.synthetic_source import attacker_faces
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import attack
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.power import PIXELS_BAR
from tf_mtl_privacy.evaluation.probes.settings import SETTINGS, Setting
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.reporting.environment import commit, hardware, versions
from tf_mtl_privacy.reporting.model_table_text import markdown_table

ATTACKER, COLUMNS = "soft_standardised", ("start", "validation", "test", "processor_seconds")
_CLASSES = 8
# Faces that each start is tested on.
TESTED = 1_000


@told
def main(argv: Sequence[str] | None = None) -> int:
    """Attacks from each start, prints, and counts those that reach the bar."""
    options = _options(sys.argv[1:] if argv is None else argv)
    data = pixels(options.data_seed, SETTINGS[options.setting], options.tint, options.noise)
    found = starts(data, options)
    table = [[f"{row[name]:.3g}" for name in COLUMNS] for row in found]
    print("\n".join(markdown_table(COLUMNS, table)))
    learned = sum(row["test"] >= PIXELS_BAR for row in found)
    print(f"\n{learned} of {len(found)} starts read at least {100 * PIXELS_BAR:g} %")
    if options.json:
        asked = ("setting", "data_seed", "tint", "noise")
        about: dict[str, Any] = {name: getattr(options, name) for name in asked}
        about |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
        write_json(options.json, {**about, "starts": found})
    return 0 if learned == len(found) else 1


def pixels(data_seed: int, setting: Setting, tint: float = 1.0, noise: float = 0.0) -> ProbeData:
    """Faces as the reference `pixels` has them: to learn from, to choose by, to be tested on.

    Args:
        data_seed: of the faces, and of the noise.
        setting: how many.
        tint: share of each pixel's distance from grey that is kept, in [0, 1].
        noise: deviation of what is added to each number; pictures are in [0, 1].
    """
    counts = (setting.image_rows, setting.validation_rows, TESTED)
    images, labels = attacker_faces(DataConfig(data_seed=data_seed), sum(counts))
    rows, ends = np.asarray(targets.pixels(images)), np.cumsum(counts)[:-1]
    grey = rows.mean(axis=-1, keepdims=True)
    drawn = np.random.default_rng(data_seed).standard_normal(rows.shape, dtype=np.float32)
    # Exactly the pictures where the tint is 1 and there is no noise.
    rows = rows - np.float32(1 - tint) * (rows - grey) + np.float32(noise) * drawn
    parts = zip(np.split(rows, ends), np.split(labels, ends), strict=True)
    return ProbeData(*(array for part in parts for array in part), _CLASSES)


def starts(data: ProbeData, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row of the table for each start."""
    setting, found = dataclasses.replace(SETTINGS[options.setting], restarts=1), []
    for number in range(options.starts):
        cpu = time.process_time()
        one = attack(data, [ATTACKER], attackers(), setting, number)[0]
        seconds, test = time.process_time() - cpu, one.test["balanced_accuracy"]
        row = {"start": number, "validation": one.validation, "test": test}
        found.append({**row, "processor_seconds": seconds})
        say(f"start {number}: {test:.3f}")
    return found


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=6, help="how many, at least 1")
    parser.add_argument("--setting", default="fast", choices=SETTINGS, help="how hard they try")
    parser.add_argument("--data_seed", type=int, default=1, help="of the faces")
    parser.add_argument("--tint", type=float, default=1.0, help="share of colour that is kept")
    parser.add_argument("--noise", type=float, default=0.0, help="its deviation; pictures: 0 to 1")
    parser.add_argument("--json", default="", help="file for the figures")
    options = parser.parse_args(argv)
    if options.starts < 1:
        parser.error(f"--starts={options.starts}: expected at least 1")
    if not 0 <= options.tint <= 1:
        parser.error(f"--tint={options.tint:g}: expected a share in [0, 1]")
    if not 0 <= options.noise <= 1:
        parser.error(f"--noise={options.noise:g}: expected a deviation in [0, 1]")
    return options


if __name__ == "__main__":
    sys.exit(main())
