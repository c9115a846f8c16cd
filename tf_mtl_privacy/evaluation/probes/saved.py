"""Fresh attackers on a saved run: its networks, the rows, and readings that are there already."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_mtl_privacy.config import AUDIT_FOLDER, RESULTS_FILE, Config, DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.probes.bounds import marked
from tf_mtl_privacy.evaluation.probes.budget import SETTINGS, Setting
from tf_mtl_privacy.evaluation.probes.probe_cache import (
    KeptReadings,
    code_digest,
    part_digest,
    rows_digest,
    strongest_kept,
)
from tf_mtl_privacy.evaluation.probes.probe_cache import weights_digest as weights_digest
from tf_mtl_privacy.evaluation.probes.rows import AttackRows, own_rows, unseen_rows
from tf_mtl_privacy.evaluation.probes.run import count_attackers, probe_networks
from tf_mtl_privacy.evaluation.probes.summary import probe_summary
from tf_mtl_privacy.evaluation.train_test_overlap import asks_alike
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.training.saved_run import SavedRun

_OTHER_DATA = "the data is not the run's own, so nothing in it was trained on"
# What must agree for two runs to hide the same thing in the same pictures.
_SAME = ("dataset", "image_size", "data_seed", "bins", "synthetic_shift", "synthetic_correlation")


def probe_run(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    test: np.ndarray[Any, Any],
    setting: str,
    *,
    is_own: bool,
    removal_off: str = "",
) -> dict[str, Any] | None:
    """`privacy.probe` of results.json; None where the data has no private label.

    All random starts follow from the run's seed. Readings are kept in the run's folder as attackers
    finish, and an interrupted call goes on where it stopped. `kept_best` has the highest reading of
    these weights on these test rows in any of the kept files (`kept.strongest_kept`), whichever
    setting made it.

    Args:
        run: the run whose networks are attacked.
        dataset: the data that is evaluated.
        data: what it was opened with.
        test: `[T]` int64 rows of it that nobody was trained on.
        setting: a name of `SETTINGS`.
        is_own: whether it is the data that the run was trained on, whichever of its labels and rows
            are asked for.
        removal_off: folder of the same run with removal off, or empty.

    Raises:
        UsageError: `removal_off` is not such a run, or no test row has a private label.
    """
    if not dataset.private_classes:
        return None
    if not (dataset.labels_of(test).private >= 0).any():
        raise UsageError(f"--probe={setting}: no evaluated row has a private label; leave it out")
    off = removal_off_figures(removal_off, data) if removal_off else None
    start, effort, bundles = time.monotonic(), SETTINGS[setting], networks(run)
    alike = is_own and asks_alike(run.config.data, data)
    weights = weights_digest(bundles)
    with Progress(1 + count_attackers(bundles, effort), "fresh attackers", "attackers") as bar:
        bar.update(0, "drawing rows")
        unseen, own = _rows(run, dataset, data, test, effort, is_own)
        kept = KeptReadings(None, {})
        if effort.kept:
            parts = {"unseen": unseen, "own": own}
            about = _about(run, effort, weights, parts, dataset.key, alike=alike)
            kept = KeptReadings(Path(run.run_dir) / AUDIT_FOLDER, about)
        bar.update(1)
        found = probe_networks(
            bundles,
            _untrained(run),
            unseen,
            own,
            len(dataset.private_classes),
            effort,
            run.config.train.seed,
            _finished(bar, kept),
            kept,
        )
    before = (run.status.get("training") or {}).get("before_game") if alike else None
    seconds = time.monotonic() - start + kept.seconds
    config = run.config
    summary = probe_summary(
        setting,
        found,
        off,
        seconds,
        before,
        classes=len(dataset.private_classes),
        game=plays_game(config),
    )
    return {
        **summary,
        "weights": weights,
        "kept_readings": kept.found,
        "kept_best": _kept_best(
            run, weights, unseen if isinstance(own, str) else own, dataset.key, alike=alike
        ),
    }


def plays_game(config: Config) -> bool:
    """Returns whether the encoder was trained against an adversary, with a weight above 0."""
    train = config.train
    return train.is_adversarial and config.loss.plays and train.adversarial_epochs > 0


def _kept_best(
    run: SavedRun, weights: str, rows: AttackRows | str, key: bytes | None, *, alike: bool
) -> dict[str, dict[str, Any]]:
    if isinstance(rows, str):
        return {}
    test = None if alike else {part_digest(rows.test, key), part_digest(rows.test, None)}
    return strongest_kept(Path(run.run_dir), weights, test)


def _finished(bar: Progress, kept: KeptReadings) -> Callable[[str], None]:
    """Counts an attacker; one that was only looked up says nothing of how fast they are."""
    made = 0

    def finished(name: str) -> None:
        nonlocal made
        timed, made = kept.made > made, kept.made
        bar.update(1, name, timed=timed)

    return finished


def _about(
    run: SavedRun,
    effort: Setting,
    weights: str,
    rows: Mapping[str, AttackRows | str],
    key: bytes | None,
    *,
    alike: bool,
) -> dict[str, Any]:
    """Returns what the readings of two calls must agree in to be of one attack."""
    tests = [part_digest(part.test, key) for part in rows.values() if not isinstance(part, str)]
    return {
        "is_own": alike,
        "test": tests[0] if tests else "",
        "weights": weights,
        "setting": dataclasses.asdict(effort),
        "seed": run.config.train.seed,
        "rows": {name: rows_digest(part, key) for name, part in rows.items()},
        "code": code_digest(),
    }


def _rows(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    test: np.ndarray[Any, Any],
    effort: Setting,
    is_own: bool,
) -> tuple[AttackRows | str, AttackRows | str]:
    """(rows that no encoder was trained on, the encoder's own), or why there are none."""
    seed = layer_seed(run.config.train.seed, "probe/rows")
    unseen = unseen_rows(dataset, data, test, effort, seed, is_own=is_own)
    return unseen, own_rows(dataset, test, effort, seed) if is_own else _OTHER_DATA


def kept_probe(
    path: Path, run: SavedRun, dataset: Dataset, data: DataConfig
) -> dict[str, Any] | None:
    """The attackers' figures that an earlier result of the same weights and data has, or None.

    Args:
        path: the result file, which may be missing.
        run: the run that is evaluated again.
        dataset: the evaluated data.
        data: what it was opened with.
    """
    try:
        before = read_json(path)
        found: dict[str, Any] | None = before["privacy"]["probe"]
        same_data = dataset.matches(before["evaluated_on"]["data_fingerprint"] or "")
        same = found is not None and found["weights"] == weights_digest(networks(run))
    except (RunError, KeyError, TypeError):
        return None
    if not same or not same_data or found is None:
        return None
    found = dict(marked(found))
    if asks_alike(run.config.data, data) and dataset.matches(run.data_fingerprint):
        # Another setting, or an attack that was interrupted, may have read more since.
        found["kept_best"] = strongest_kept(Path(run.run_dir), found["weights"])
    return found


def kept_readings(run_dir: str | os.PathLike[str], weights: str) -> list[dict[str, Any]]:
    """Cached readings on the run's own test rows, for `reconcile_probes.leakage`.

    Args:
        run_dir: the run's folder.
        weights: `weights_digest` of its networks.

    Returns:
        A list of one measurement, or of none where nothing is kept.
    """
    found = strongest_kept(Path(run_dir), weights)
    return [{"source": "kept readings", "kept_best": found}] if found else []


def removal_off_figures(folder: str, data: DataConfig) -> dict[str, Any]:
    """`privacy.probe.features.strongest` of another run on the same data.

    Raises:
        UsageError: it has none, removes something itself, or is on other data.
    """
    flag, path = f"--removal_off={folder}", Path(folder) / RESULTS_FILE
    try:
        results = read_json(path)
        figures: dict[str, Any] = dict(results["privacy"]["probe"]["features"]["strongest"])
        config = Config.from_dict(results["config"])
    except (RunError, KeyError, TypeError) as error:
        raise UsageError(
            f"{flag}: {path.name} there has no figures of fresh attackers; make them with "
            "evaluate --probe=fast on that run"
        ) from error
    names = (*_SAME, "effective_private_label")
    other, removal = config.data, config.removal_in_force
    wrong = [name for name in names if getattr(other, name) != getattr(data, name)]
    if wrong:
        raise UsageError(
            f"{flag}: its {wrong[0].removeprefix('effective_')} is "
            f"{getattr(other, wrong[0])!r}, here it is {getattr(data, wrong[0])!r}; name a run "
            "on the same data"
        )
    for name, off in (("mask", "none"), ("erasure", "none"), ("feature_noise", 0.0)):
        if getattr(removal, name) != off:
            raise UsageError(
                f"{flag}: that run has --{name}={getattr(removal, name)}; name one without what "
                "removes the private label, which is to show that attackers read it then"
            )
    return figures


def networks(run: SavedRun) -> Mapping[str, Bundle]:
    """The run's networks by task, or under an empty name where one serves all tasks."""
    return run.single_task or {"": run.bundle}


def _untrained(run: SavedRun) -> Any:
    """An encoder of the same shape with other initial weights than the run's own."""
    model = dataclasses.replace(
        run.config.model, encoder_weights="none", backbone="", freeze_backbone=False
    )
    seed = layer_seed(run.config.train.seed, "probe/untrained")
    return build_encoder(model, run.config.data.image_size, seed=seed)
