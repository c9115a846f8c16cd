"""The runs that the table of models is made of: where they lie and how they are trained."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

EVERYTHING = "dp_scope_all"
BACKBONE = "backbone"
# Model -> its name in the paper; the fifth is not in the paper.
MODELS = {
    "stl": "STL",
    "mtl_adv": "MTL-Adv",
    "mtl_dp": "MTL-DP",
    "mtl_adv_dp": "MTL-Adv-DP",
    EVERYTHING: "all by DP-SGD",
}
_FLAGFILES = {
    **{model: f"synthetic_small_{model}.cfg" for model in MODELS},
    EVERYTHING: "synthetic_small_dp_all.cfg",
    BACKBONE: "backbone.cfg",
}


class TableRun(NamedTuple):
    """One run of the table, or the public backbone that `dp_scope_all` needs.

    Attributes:
        model: a key of `MODELS`, or `BACKBONE`.
        seed: of initial weights and order of rows; the backbone's is always 0.
    """

    model: str
    seed: int = 0

    def folder(self, runs: str | os.PathLike[str]) -> Path:
        """Its folder among `runs`."""
        name = BACKBONE if self.model == BACKBONE else f"{self.model}-seed{self.seed}"
        return Path(runs) / name

    def flags(self, runs: str | os.PathLike[str]) -> list[str]:
        """The flags of `train` that make it, without those of its folder and its attackers."""
        flags = [f"--flagfile={_FLAGFILES[self.model]}", f"--seed={self.seed}"]
        if self.model == EVERYTHING:
            flags.append(f"--backbone={TableRun(BACKBONE).folder(runs)}")
        return flags

    @property
    def probe(self) -> str:
        """How hard fresh attackers try; of the backbone nothing is claimed."""
        return "none" if self.model == BACKBONE else "fast"


def table_runs(seeds: Sequence[int]) -> list[TableRun]:
    """Every run of the table, in an order in which each finds what it needs."""
    runs = [TableRun(model, seed) for seed in seeds for model in MODELS]
    first = next((k for k, run in enumerate(runs) if run.model == EVERYTHING), len(runs))
    return [*runs[:first], TableRun(BACKBONE), *runs[first:]]


def train_command(
    flags: Sequence[str],
    folder: str | os.PathLike[str],
    probe: str = "fast",
    python: str = "python",
) -> list[str]:
    """The command that trains a run, or goes on with it, as a list of arguments."""
    verb = [python, "-m", "tf_mtl_privacy.train"]
    return [*verb, *flags, f"--run_dir={folder}", f"--probe={probe}"]


def command_text(run: TableRun, runs: str | os.PathLike[str]) -> str:
    """The command of a run, to be copied."""
    return shlex.join(train_command(run.flags(runs), run.folder(runs), run.probe))
