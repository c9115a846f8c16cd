"""Fresh attackers on a saved run: its networks, the rows, and the cached readings."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import keras

from tf_mtl_privacy import removal
from tf_mtl_privacy.config import AUDIT_FOLDER, RESULTS_FILE, Config, DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.probes.bounds import marked
from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS, ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import AttackRows, own_rows, unseen_rows
from tf_mtl_privacy.evaluation.probes.probe_cache import (
    KeptReadings,
    code_digest,
    part_digest,
    rows_digest,
    strongest_kept,
)
from tf_mtl_privacy.evaluation.probes.probe_cache import weights_digest as weights_digest
from tf_mtl_privacy.evaluation.probes.run import count_attackers, probe_networks
from tf_mtl_privacy.evaluation.probes.summary import probe_summary
from tf_mtl_privacy.evaluation.schema import KeptBest, NamedReading, ProbeResults, read_results
from tf_mtl_privacy.evaluation.train_test_overlap import asks_alike
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.training.saved_run import SavedRun
from tf_mtl_privacy.types import Array

_OTHER_DATA = "the data is not the run's own, so nothing in it was trained on"
# Data options that must agree for a run without removal to be a baseline of another.
_SAME = ("dataset", "image_size", "data_seed", "bins", "synthetic_shift", "synthetic_correlation")


def probe_run(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    test: Array,
    setting: str,
    *,
    is_own: bool,
    baseline_run: str = "",
) -> ProbeResults | None:
    """Attacks a run and returns `privacy.probe` of results.json; None without a private label.

    All random starts follow from the run's seed. Readings are saved in the run's folder as
    attackers finish, so that an interrupted call resumes. `kept_best` has the highest reading of
    these weights on these test rows in any saved file, of whichever budget
    (`probe_cache.strongest_kept`).

    Args:
        run: the run whose networks are attacked.
        dataset: the evaluated data.
        data: the options that it was opened with.
        test: `[T]` int64, its test rows; no network was trained on them.
        setting: a name of `PROBE_BUDGETS`.
        is_own: if it is the data that the run was trained on, whichever labels and rows are asked
            for.
        baseline_run: folder of the same run without removal, or empty.

    Raises:
        UsageError: `baseline_run` is not such a run, or no test row has a private label.
    """
    if not dataset.private_classes:
        return None
    if not (dataset.labels_of(test).private >= 0).any():
        raise UsageError(f"--probe={setting}: no evaluated row has a private label; omit the flag")
    baseline = baseline_figures(baseline_run, data) if baseline_run else None
    start, budget, bundles = time.monotonic(), PROBE_BUDGETS[setting], networks(run)
    alike = is_own and asks_alike(run.config.data, data)
    weights = weights_digest(bundles)
    with Progress(1 + count_attackers(bundles, budget), "fresh attackers", "attackers") as bar:
        bar.update(0, "preparing rows")
        unseen, own = _rows(run, dataset, data, test, budget, is_own)
        cache = KeptReadings(None, {})
        if budget.kept:
            parts = {"unseen": unseen, "own": own}
            about = _about(run, budget, weights, parts, dataset.key, alike=alike)
            cache = KeptReadings(Path(run.run_dir) / AUDIT_FOLDER, about)
        bar.update(1)
        targets = probe_networks(
            bundles,
            _untrained(run),
            unseen,
            own,
            len(dataset.private_classes),
            budget,
            run.config.train.seed,
            _finished(bar, cache),
            cache,
        )
    summary = probe_summary(
        setting,
        targets,
        baseline,
        time.monotonic() - start + cache.seconds,
        (run.status.get("training") or {}).get("before_game") if alike else None,
        classes=len(dataset.private_classes),
        game=plays_game(run.config),
    )
    summary["weights"] = weights
    summary["kept_readings"] = cache.found
    rows = unseen if isinstance(own, str) else own
    summary["kept_best"] = _kept_best(run, weights, rows, dataset.key, alike=alike)
    return summary


def plays_game(config: Config) -> bool:
    """Returns True if the encoder was trained against an adversary, with a weight above 0."""
    train = config.train
    return train.is_adversarial and config.loss.plays and train.adversarial_epochs > 0


def kept_probe(
    path: Path, run: SavedRun, dataset: Dataset, data: DataConfig
) -> ProbeResults | None:
    """Returns `privacy.probe` of an earlier result of the same weights and data, or None.

    Args:
        path: the result file, which may be missing.
        run: the run that is evaluated again.
        dataset: the evaluated data.
        data: the options that it was opened with.
    """
    try:
        before = read_results(path)
        probe = before["privacy"]["probe"]
        same_data = dataset.matches(before["evaluated_on"]["data_fingerprint"] or "")
        same = probe is not None and probe["weights"] == weights_digest(networks(run))
    except (RunError, KeyError, TypeError):
        return None
    if not same or not same_data or probe is None:
        return None
    result = cast(ProbeResults, dict(marked(probe)))
    if asks_alike(run.config.data, data) and dataset.matches(run.data_fingerprint):
        # An attack with another budget, or an interrupted one, may have read more since.
        result["kept_best"] = strongest_kept(Path(run.run_dir), result["weights"])
    return result


def kept_readings(run_dir: str | os.PathLike[str], weights: str) -> list[dict[str, Any]]:
    """Returns cached readings on the run's own test rows, for `reconcile_probes.leakage`.

    Args:
        run_dir: the run's folder.
        weights: `weights_digest` of its networks.

    Returns:
        One measurement, or an empty list where nothing is cached.
    """
    best = strongest_kept(Path(run_dir), weights)
    return [{"source": "kept readings", "kept_best": best}] if best else []


def baseline_figures(folder: str, data: DataConfig) -> NamedReading:
    """Returns the strongest attacker on features of a run without removal on the same data.

    Raises:
        UsageError: the run has no such figures, removes something itself, or is on other data.
    """
    flag, path = f"--baseline_run={folder}", Path(folder) / RESULTS_FILE
    try:
        results = read_results(path)
        figures = cast(NamedReading, dict(results["privacy"]["probe"]["features"]["strongest"]))  # type: ignore[index,arg-type]
        config = Config.from_dict(results["config"])
    except (RunError, KeyError, TypeError) as error:
        raise UsageError(
            f"{flag}: its {path.name} has no results of fresh attackers; run evaluate --probe=fast "
            "on that run"
        ) from error
    names = (*_SAME, "effective_private_label")
    other = config.data
    wrong = [name for name in names if getattr(other, name) != getattr(data, name)]
    if wrong:
        raise UsageError(
            f"{flag}: its {wrong[0].removeprefix('effective_')} is "
            f"{getattr(other, wrong[0])!r}, here it is {getattr(data, wrong[0])!r}; give a run "
            "on the same data"
        )
    # Methods of other packages need no flag.
    methods = (f"the removal method '{method.name}'" for method in removal.methods(config))
    if used := [*config.removal_in_force.switched_on, *methods]:
        raise UsageError(f"{flag}: that run has {used[0]}; give a run without any removal")
    return figures


def networks(run: SavedRun) -> Mapping[str, Bundle]:
    """Returns the run's networks by task, or under an empty name where one serves all tasks."""
    return run.single_task or {"": run.bundle}


def _rows(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    test: Array,
    budget: ProbeBudget,
    is_own: bool,
) -> tuple[AttackRows | str, AttackRows | str]:
    """Returns the unseen rows and the encoder's own, or the reasons why there are none."""
    seed = layer_seed(run.config.train.seed, "probe/rows")
    unseen = unseen_rows(dataset, data, test, budget, seed, is_own=is_own)
    return unseen, own_rows(dataset, test, budget, seed) if is_own else _OTHER_DATA


def _about(
    run: SavedRun,
    budget: ProbeBudget,
    weights: str,
    rows: Mapping[str, AttackRows | str],
    key: bytes | None,
    *,
    alike: bool,
) -> dict[str, Any]:
    """Returns everything that readings of the same attack must agree in."""
    tests = [part_digest(part.test, key) for part in rows.values() if not isinstance(part, str)]
    return {
        "is_own": alike,
        "test": tests[0] if tests else "",
        "weights": weights,
        "setting": dataclasses.asdict(budget),
        "seed": run.config.train.seed,
        "rows": {name: rows_digest(part, key) for name, part in rows.items()},
        "code": code_digest(),
    }


def _finished(bar: Progress, cache: KeptReadings) -> Callable[[str], None]:
    """Counts finished attackers; cached ones do not count towards the rate."""
    made = 0

    def finished(name: str) -> None:
        nonlocal made
        timed, made = cache.made > made, cache.made
        bar.update(1, name, timed=timed)

    return finished


def _kept_best(
    run: SavedRun, weights: str, rows: AttackRows | str, key: bytes | None, *, alike: bool
) -> dict[str, KeptBest]:
    if isinstance(rows, str):
        return {}
    test = None if alike else {part_digest(rows.test, key), part_digest(rows.test, None)}
    return strongest_kept(Path(run.run_dir), weights, test)


def _untrained(run: SavedRun) -> keras.Model:
    """Builds an encoder of the same shape with other initial weights than the run's own."""
    model = dataclasses.replace(
        run.config.model, encoder_weights="none", backbone="", freeze_backbone=False
    )
    seed = layer_seed(run.config.train.seed, "probe/untrained")
    return build_encoder(model, run.config.data.image_size, seed=seed)
