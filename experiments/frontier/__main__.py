"""Privacy-utility frontier over beta and the objective of the encoder, with and without the mask.

    python -m experiments.frontier [--base=synthetic_small.cfg] [--runs=runs/frontier] [--seed=0]
        [--betas=0,0.1,0.3,1,3] [--objectives=confusion,paper] [--masks=none,learned]
        [--plot_only] [--picture=FILE.png] [--json=FILE] [-- FLAGS OF TRAIN]

Trains the points one after the other, resumably, then plots them and writes their numbers; beta is
constant in the joint phase. With the mask the restorer also gets the covered picture
(--pixel_path); without the mask that would be the whole picture. `--plot_only` plots the finished
runs and trains nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.ablations.rows import COMMON
from experiments.frontier.plot import frontier_plot
from experiments.runs import (
    INTERRUPTED,
    Run,
    Train,
    check_base,
    exit_code,
    finished,
    names,
    say,
    split_flags,
    trained,
)
from tf_mtl_privacy.config import LossConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import write_atomic, write_json
from tf_mtl_privacy.reporting.runs import run_figures

MASKS = {"none": False, "learned": True}
OBJECTIVES: tuple[str, ...] = LossConfig.__dataclass_fields__["objective"].metadata["choices"]
_FIGURES = ("gender", "age", "expression_f1", "psnr_db", "discriminator", "probe_restored")


class Point(NamedTuple):
    """Point of the frontier; at beta 0 the objective has no effect."""

    beta: float
    objective: str
    mask: str

    @property
    def name(self) -> str:
        """Name of its run, without the seed."""
        objective = f"{self.objective}-" if self.beta else ""
        return f"{objective}beta{self.beta:g}-mask_{self.mask}"

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `train` on top of the base flagfile."""
        beta = f"{self.beta:g}"
        # Keeps the checks of training from raising beta.
        constant = (f"--beta={beta}", f"--beta_late={beta}", f"--beta_max={beta}")
        game = (f"--objective={self.objective}",) if self.beta else ()
        mask = ("--mask=learned", "--pixel_path") if self.mask == "learned" else ()
        return (*COMMON, *mask, *game, *constant)


def planned(
    points: Sequence[Point], base: str, runs: str, seed: int, extra: Sequence[str] = ()
) -> list[Run]:
    """Returns the run of every point; points at beta 0 share one run for all objectives."""
    entries = {
        point.name: Run(
            point.name,
            Path(runs) / f"{point.name}-seed{seed}",
            (f"--flagfile={base}", *point.flags, f"--seed={seed}", *extra),
        )
        for point in points
    }
    return list(entries.values())


def frontier_numbers(
    points: Sequence[Point], done: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the numbers of the plot.

    Args:
        points: all points.
        done: `Point.name` -> results.json; points without results are left out.

    Returns:
        `chance`, and `points`: list of `objective`, `beta`, `mask` (bool), `probe` with `ci95`,
        `underpowered`, and utility, rates in [0, 1] and PSNR in dB; a figure may be None.
    """
    chance, entries = None, []
    for point in points:
        if point.name not in done:
            continue
        results = done[point.name]
        run = run_figures(results)
        chance = run.chance if chance is None else chance
        read, high = (run.figures[name].value for name in ("probe_features", "probe_features_high"))
        entries.append(
            {
                "objective": point.objective,
                "beta": point.beta,
                "mask": MASKS[point.mask],
                "probe": read,
                "ci95": None if read is None else [read, high],
                "underpowered": bool(run.underpowered),
                **{name: run.figures[name].value for name in _FIGURES},
            }
        )
    return {"chance": chance, "points": entries}


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Trains, plots and writes; returns 1 if a point is missing, 130 if interrupted."""
    own, extra = split_flags(sys.argv[1:] if argv is None else argv)
    options = _options(own)
    points = [
        Point(b, o, m) for m in options.masks for o in options.objectives for b in options.betas
    ]
    runs = planned(points, options.base, options.runs, options.seed, extra)
    failed = trained(runs, train, skip=options.plot_only)
    if failed is None:
        return INTERRUPTED
    done = finished(runs)
    missing = {r.name: "not trained" for r in runs if r.name not in done} | failed
    numbers = frontier_numbers(points, done)
    if numbers["points"]:
        os.makedirs(options.runs, exist_ok=True)
        write_atomic(options.picture, frontier_plot(numbers["points"], numbers["chance"]))
        write_json(options.json, numbers)
        say(f"picture: {options.picture}\nnumbers: {options.json}")
    return exit_code(missing)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.frontier", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--base", default="synthetic_small.cfg", help="flagfile of every point")
    parser.add_argument("--runs", default="runs/frontier", help="folder of the runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of every point")
    parser.add_argument(
        "--betas", default="0,0.1,0.3,1,3", help="values of beta, separated by commas"
    )
    parser.add_argument("--objectives", default="confusion,paper", help="separated by commas")
    parser.add_argument("--masks", default="none,learned", help="one or both, separated by commas")
    parser.add_argument("--plot_only", action="store_true", help="train nothing")
    parser.add_argument("--picture", default="", help="PNG to write; default: in --runs")
    parser.add_argument("--json", default="", help="numbers to write; default: in --runs")
    options = parser.parse_args(argv)
    given = options.betas
    try:
        options.betas = sorted({float(value) for value in options.betas.split(",")})
        for beta in options.betas:
            LossConfig(beta=beta, beta_late=beta, beta_max=beta)
    except (ValueError, UsageError):
        parser.error(f"--betas={given}: expected numbers >= 0, separated by commas")
    options.objectives = names(parser, "objectives", options.objectives, OBJECTIVES)
    options.masks = names(parser, "masks", options.masks, MASKS)
    check_base(parser, options.base)
    options.picture = options.picture or os.path.join(options.runs, "frontier.png")
    options.json = options.json or os.path.join(options.runs, "frontier.json")
    return options


if __name__ == "__main__":
    sys.exit(main())
