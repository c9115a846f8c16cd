"""The paper's four models and a fifth, side by side, out of finished runs.

The runs that the table of models is made of: where they lie and how they are trained.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tf_mtl_privacy.config import AUDIT_FILE, RESULTS_FILE
from tf_mtl_privacy.data.fingerprints import OTHER_KEYS, same_data
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.membership.verdict import INVALID, NO_POWER
from tf_mtl_privacy.evaluation.schema import read_audit, read_results
from tf_mtl_privacy.privacy.noise_record import NOISE
from tf_mtl_privacy.reporting.risk_reduction import (
    PAPER,
    PAPER_CHANCE,
    PAPER_CLAIM,
    our_reductions,
    paper_reductions,
)
from tf_mtl_privacy.reporting.run_figures import (
    NOT_MEASURED,
    RunFigures,
    run_figures,
    spread,
)

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


TABLE_VERSION = 1
# What a verdict on an audit's figure of membership inference means for it.
_UNSURE = {
    NO_POWER: "nothing shows that membership attacks could have found more",
    INVALID: "no membership inference, as members and others differ without any model",
}
# What the table shows of `run_figures.SOURCES`.
COLUMNS = (
    "gender",
    "age",
    "expression_f1",
    "psnr_db",
    "discriminator",
    "leakage",
    "leakage_high",
    "probe_features",
    "probe_features_high",
    "probe_restored",
    "probe_restored_high",
    "membership",
    "epsilon_conditional",
    "epsilon_released",
)


def model_table(runs_dir: str | os.PathLike[str], seeds: int = 1) -> dict[str, Any]:
    """Reads `<model>-seed<k>/results.json` under a folder, and audit.json beside it where it is.

    Args:
        runs_dir: the folder of runs.
        seeds: how many seeds (0, 1, ..) each model should have at least; a seed that one model has
            is expected of all.

    Returns:
        JSON-ready: `noise` (that of every epsilon in it), `seeds`, `models` (model -> `title`,
        `seeds`, `paper`, `figures`: column -> `spread`, `label_access`: list, or null where no run
        says it, `mask`: seed -> a value of `mask_evidence`, `underpowered` and `refused`: seed ->
        reasons, `membership`: seed -> verdict of its audit where that is not "ok"), `reductions`
        (`claim`, `chance`, `paper`, `ours`), `missing` (list of `model`, `seed`, `command`) and
        `notes` (list of sentences).

    Raises:
        UsageError: there is no such folder.
        RunError: a result is damaged, or its folder is named after another model or seed; or there
            is no finished run at all.
    """
    folder = Path(runs_dir)
    if not folder.is_dir():
        raise UsageError(f"--runs={runs_dir}: no such folder; `make table` trains the runs")
    wanted = sorted({*range(seeds), *_seeds_in(folder)})
    runs = {
        model: {
            seed: run
            for seed in wanted
            if (run := _read(TableRun(model, seed), folder)) is not None
        }
        for model in MODELS
    }
    missing = _missing(runs, wanted, folder)
    if not any(runs.values()):
        raise RunError(
            f"--runs={runs_dir}: no finished run in it; `make table` trains them all, the first by "
            f"{missing[0]['command']}"
        )
    return {
        "table_version": TABLE_VERSION,
        "noise": NOISE,
        "seeds": wanted,
        "models": {model: _model(model, by_seed) for model, by_seed in runs.items()},
        "reductions": {
            "claim": PAPER_CLAIM,
            "chance": PAPER_CHANCE,
            "paper": paper_reductions(),
            "ours": our_reductions(runs, wanted),
        },
        "missing": missing,
        "notes": _notes(runs, folder),
    }


def _seeds_in(folder: Path) -> set[int]:
    """Seeds of finished runs."""
    names = (path.parent.name for path in folder.glob(f"*/{RESULTS_FILE}"))
    found = (re.fullmatch(rf"({'|'.join(MODELS)})-seed(\d+)", name) for name in names)
    return {int(match[2]) for match in found if match}


def _read(run: TableRun, runs_dir: Path) -> RunFigures | None:
    """The figures of a run; None where it is not finished."""
    folder = run.folder(runs_dir)
    path = folder / RESULTS_FILE
    if not path.exists():
        return None
    results = read_results(path)
    everything = (results.get("dp") or {}).get("scope") == "all"
    model = EVERYTHING if everything else results.get("model")
    if (model, results.get("seed")) != run:
        raise RunError(
            f"{path}: is of {model}, seed {results.get('seed')}, not of {run.model}, seed "
            f"{run.seed}; rename the folder"
        )
    return run_figures(results, read_audit(folder / AUDIT_FILE))


def _model(model: str, runs: Mapping[int, RunFigures]) -> dict[str, Any]:
    known = [run.label_access for run in runs.values() if run.label_access is not None]
    return {
        "title": MODELS[model],
        "seeds": list(runs),
        "paper": PAPER.get(model, {}),
        "figures": {name: spread(run.figures[name] for run in runs.values()) for name in COLUMNS},
        # Of all its runs, each once; one run that says nothing leaves it open.
        "label_access": list(dict.fromkeys(text for texts in known for text in texts))
        if known and len(known) == len(runs)
        else None,
        "mask": {str(seed): run.mask for seed, run in runs.items()},
        "underpowered": {
            str(seed): list(run.underpowered) for seed, run in runs.items() if run.underpowered
        },
        "refused": {str(seed): list(run.refused) for seed, run in runs.items() if run.refused},
        "membership": {
            str(seed): run.membership for seed, run in runs.items() if run.membership in _UNSURE
        },
    }


def _missing(
    runs: Mapping[str, Mapping[int, RunFigures]], seeds: Sequence[int], folder: Path
) -> list[dict[str, Any]]:
    absent = [TableRun(m, s) for s in seeds for m in MODELS if s not in runs[m]]
    first = next((k for k, run in enumerate(absent) if run.model == EVERYTHING), None)
    backbone = TableRun(BACKBONE)
    if first is not None and not (backbone.folder(folder) / RESULTS_FILE).exists():
        absent.insert(first, backbone)
    return [
        {"model": run.model, "seed": run.seed, "command": command_text(run, folder)}
        for run in absent
    ]


def _notes(runs: Mapping[str, Mapping[int, RunFigures]], folder: Path) -> list[str]:
    notes = []
    same = same_data(run.fingerprint for by_seed in runs.values() for run in by_seed.values())
    if same is None:
        notes.append(f"it cannot be told if the runs are on the same data: {OTHER_KEYS}")
    elif not same:
        notes.append("the runs are NOT on the same data (evaluated_on.data_fingerprint differs)")
    for model, by_seed in runs.items():
        for seed, run in by_seed.items():
            name = f"{MODELS[model]}, seed {seed}"
            if run.underpowered:
                reasons = "; ".join(run.underpowered)
                notes.append(f"{name}: UNDERPOWERED ATTACKERS, NO CLAIM: {reasons}")
            if others := [text for text in run.refused if text not in run.underpowered]:
                notes.append(f"{name}: NO CLAIM: {'; '.join(others)}")
            if run.void:
                notes.append(f"{name}: NO EPSILON HOLDS: {run.void}")
            if run.membership in _UNSURE:
                notes.append(f"{name}: {_UNSURE[run.membership]}")
            if run.figures["probe_features"].absent == NOT_MEASURED:
                where = TableRun(model, seed).folder(folder)
                notes.append(
                    f"{name}: no fresh attackers; python -m tf_mtl_privacy.evaluate "
                    f"--run_dir={where} --probe=fast"
                )
    return notes
