"""The paper's four models and a fifth side by side: figures of finished runs and of the paper.

`model_table` reads the runs and also computes by how much a risk falls, by the paper's figures and
by ours.
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
from tf_mtl_privacy.reporting.runs import (
    EVERYTHING,
    MODELS,
    NONE,
    NOT_MEASURED,
    Figure,
    RunFigures,
    run_figures,
    spread,
)

BACKBONE = "backbone"
_FLAGFILES = {
    **{model: f"synthetic_small_{model}.cfg" for model in MODELS},
    EVERYTHING: "synthetic_small_dp_all.cfg",
    BACKBONE: "backbone.cfg",
}
# Its abstract: "reducing privacy leakage risks by 92.5% compared to traditional models".
PAPER_CLAIM = 0.925
# Tables 1 and 3 of the paper, on CelebA: rates in [0, 1], PSNR in dB. Its privacy classification
# accuracy is that of the in-loop discriminator.
PAPER = {
    "stl": {
        "gender": 0.952,
        "age": 0.786,
        "expression_f1": 0.813,
        "discriminator": 0.897,
        "membership": 0.825,
    },
    "mtl_adv": {
        "gender": 0.968,
        "age": 0.821,
        "expression_f1": 0.835,
        "psnr_db": 30.2,
        "discriminator": 0.236,
        "membership": 0.182,
    },
    "mtl_dp": {
        "gender": 0.945,
        "age": 0.793,
        "expression_f1": 0.801,
        "psnr_db": 30.5,
        "discriminator": 0.198,
        "membership": 0.157,
        "epsilon_conditional": 0.5,
    },
    "mtl_adv_dp": {
        "gender": 0.973,
        "age": 0.845,
        "expression_f1": 0.857,
        "psnr_db": 32.8,
        "discriminator": 0.125,
        "membership": 0.073,
        "epsilon_conditional": 0.5,
    },
}
# The paper gives no number of classes; 12.5 % would be chance for 8. For membership inference it
# calls 5 % a random guess.
PAPER_CHANCE = {"discriminator": 0.125, "membership": 0.05}
TABLE_VERSION = 1
# Notes on audits whose membership inference is not conclusive, by verdict.
_UNSURE = {
    NO_POWER: "membership inference without power check: nothing shows that the attacks could "
    "have found more",
    INVALID: "membership inference not valid: members and non-members differ without any model",
}
# The figures of `runs.SOURCES` in the table.
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


class TableRun(NamedTuple):
    """A run of the table, or the public backbone that `dp_scope_all` needs.

    Attributes:
        model: a key of `MODELS`, or `BACKBONE`.
        seed: of initial weights and row order; always 0 for the backbone.
    """

    model: str
    seed: int = 0

    def folder(self, runs: str | os.PathLike[str]) -> Path:
        """Folder of the run among `runs`."""
        name = BACKBONE if self.model == BACKBONE else f"{self.model}-seed{self.seed}"
        return Path(runs) / name

    def flags(self, runs: str | os.PathLike[str]) -> list[str]:
        """The flags of `train` for this run, except `--run_dir` and `--probe`."""
        flags = [f"--flagfile={_FLAGFILES[self.model]}", f"--seed={self.seed}"]
        if self.model == EVERYTHING:
            flags.append(f"--backbone={TableRun(BACKBONE).folder(runs)}")
        return flags

    @property
    def probe(self) -> str:
        """The value of `--probe`; nothing is claimed of the backbone."""
        return "none" if self.model == BACKBONE else "fast"


def table_runs(seeds: Sequence[int]) -> list[TableRun]:
    """All runs of the table; the backbone precedes the runs that need it."""
    runs = [TableRun(model, seed) for seed in seeds for model in MODELS]
    first = next((k for k, run in enumerate(runs) if run.model == EVERYTHING), len(runs))
    return [*runs[:first], TableRun(BACKBONE), *runs[first:]]


def train_command(
    flags: Sequence[str],
    folder: str | os.PathLike[str],
    probe: str = "fast",
    python: str = "python",
) -> list[str]:
    """The command that trains a run, or resumes it, as a list of arguments."""
    command = [python, "-m", "tf_mtl_privacy.train"]
    return [*command, *flags, f"--run_dir={folder}", f"--probe={probe}"]


def command_text(run: TableRun, runs: str | os.PathLike[str]) -> str:
    """The command of a run, to be copied."""
    return shlex.join(train_command(run.flags(runs), run.folder(runs), run.probe))


def model_table(runs_dir: str | os.PathLike[str], seeds: int = 1) -> dict[str, Any]:
    """Reads `<model>-seed<k>/results.json`, and audit.json if present, from a folder of runs.

    Args:
        runs_dir: the folder.
        seeds: minimum number of seeds (0, 1, ...) per model; a seed present for one model is
            expected for all.

    Returns:
        JSON-ready: `noise` (behind every epsilon in it), `seeds`, `models` (model -> `title`,
        `seeds`, `paper`, `figures`: column -> `spread`, `label_access`: list, or null if no run
        says it, `mask`: seed -> a value of `mask_evidence`, `underpowered` and `refused`: seed ->
        reasons, `membership`: seed -> verdict of its audit if not "ok"), `reductions` (`claim`,
        `chance`, `paper`, `ours`), `missing` (list of `model`, `seed`, `command`) and `notes`
        (list of sentences).

    Raises:
        UsageError: the folder does not exist.
        RunError: a result is damaged, its folder is named after another model or seed, or there is
            no finished run.
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
            f"--runs={runs_dir}: no finished run; `make table` trains all of them, first "
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
    """The figures of a run; None if it is not finished."""
    folder = run.folder(runs_dir)
    path = folder / RESULTS_FILE
    if not path.exists():
        return None
    results = read_results(path)
    everything = (results.get("dp") or {}).get("scope") == "all"
    model = EVERYTHING if everything else results.get("model")
    if (model, results.get("seed")) != run:
        raise RunError(
            f"{path}: result of {model}, seed {results.get('seed')}, not of {run.model}, seed "
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
        # The union over its runs; unknown if one run does not say it.
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
        notes.append(f"unknown if the runs use the same data: {OTHER_KEYS}")
    elif not same:
        notes.append("the runs do NOT use the same data (evaluated_on.data_fingerprint differs)")
    for model, by_seed in runs.items():
        for seed, run in by_seed.items():
            name = f"{MODELS[model]}, seed {seed}"
            if run.underpowered:
                reasons = "; ".join(run.underpowered)
                notes.append(f"{name}: NO BOUND CLAIMED, underpowered attackers: {reasons}")
            if others := [text for text in run.refused if text not in run.underpowered]:
                notes.append(f"{name}: NO BOUND CLAIMED: {'; '.join(others)}")
            if run.void:
                notes.append(f"{name}: NO EPSILON HOLDS: {run.void}")
            if run.membership in _UNSURE:
                notes.append(f"{name}: {_UNSURE[run.membership]}")
            if run.figures["probe_features"].absent == NOT_MEASURED:
                where = TableRun(model, seed).folder(folder)
                notes.append(
                    f"{name}: no fresh attackers; run python -m tf_mtl_privacy.evaluate "
                    f"--run_dir={where} --probe=fast"
                )
    return notes


class Measure(NamedTuple):
    """A figure of the protected model and the figure of the baseline it is compared with.

    Fresh attackers are compared with fresh attackers, and the in-loop discriminator, which is far
    weaker with or without removal, only with the in-loop discriminator.
    """

    title: str
    on: str
    off: str


MEASURES = {
    "probe": Measure("attacker on features", "probe_features", "probe_features"),
    "probe_high": Measure("attacker, upper bound", "probe_features_high", "probe_features"),
    "in_loop": Measure("in-loop discriminator", "discriminator", "discriminator"),
}
BASELINES = ("stl", "mtl_dp")


def reduction(p_off: float, p_on: float, chance: float = 0.0) -> float | None:
    """Returns (p_off - p_on) / (p_off - chance), the share of a risk that was removed.

    With `chance` 0 it is the relative reduction, otherwise the reduction of the attacker's
    advantage over chance (1 at chance, above 1 below it). None if `p_off` is at most `chance`.
    """
    return None if p_off <= chance else (p_off - p_on) / (p_off - chance)


def paper_reductions() -> dict[str, dict[str, dict[str, float | None]]]:
    """Model -> figure -> `relative` and `above_chance`, from the paper's own Table 3."""
    stl = PAPER["stl"]
    return {
        model: {
            name: {
                "relative": reduction(stl[name], figures[name]),
                "above_chance": reduction(stl[name], figures[name], chance),
            }
            for name, chance in PAPER_CHANCE.items()
        }
        for model, figures in PAPER.items()
        if model != "stl"
    }


def our_reductions(
    runs: Mapping[str, Mapping[int, RunFigures]], seeds: Sequence[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Baseline -> model -> measure -> `relative` and `above_chance`, each a `spread` over seeds.

    A seed counts if both models have it and the attackers of neither are underpowered: a low figure
    of a weak attacker is no reduction.

    Args:
        runs: model -> seed -> its figures.
        seeds: all seeds, in order.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for baseline in BASELINES:
        found[baseline] = {}
        for model, by_seed in runs.items():
            if model in ("stl", baseline):
                continue
            found[baseline][model] = {
                name: {
                    kind: spread(
                        _one(runs[baseline].get(seed), by_seed.get(seed), measure, kind)
                        for seed in seeds
                    )
                    for kind in ("relative", "above_chance")
                }
                for name, measure in MEASURES.items()
                # STL has no discriminator.
                if name != "in_loop" or baseline != "stl"
            }
    return found


def _one(off: RunFigures | None, on: RunFigures | None, measure: Measure, kind: str) -> Figure:
    if off is None or on is None or off.underpowered or on.underpowered:
        return Figure(None, NOT_MEASURED)
    p_off, p_on = off.figures[measure.off].value, on.figures[measure.on].value
    chance = 0.0 if kind == "relative" else on.chance
    if p_off is None or p_on is None or chance is None:
        return Figure(None, NOT_MEASURED)
    value = reduction(p_off, p_on, chance)
    return Figure(value, NONE if value is None else "")
