"""A finished run, loaded from its folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import CONFIG_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.models.bundle import Bundle, build_bundle, load_bundle_weights
from tf_mtl_privacy.privacy.noise_record import checked_dp
from tf_mtl_privacy.training import run_dir as folders


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A finished run: its configuration, networks and figures.

    Attributes:
        run_dir: the folder.
        config: the configuration it was trained with.
        task_classes: task name -> class names.
        private_classes: names of the private label's classes; empty where there is none.
        bundle: the networks; for a single-task run those of the first task.
        single_task: for a single-task run, task name -> its networks; else empty.
        data_fingerprint: `Dataset.fingerprint` of the data it was trained on.
        status: gates, stop rule, training figures and `dp`, as in results.json; `dp` is void if its
            noise is that of an earlier version (`noise_record.checked_dp`).
    """

    run_dir: Path
    config: Config
    task_classes: dict[str, tuple[str, ...]]
    private_classes: tuple[str, ...]
    bundle: Bundle
    single_task: dict[str, Bundle]
    data_fingerprint: str
    status: dict[str, Any]


def load_run(run_dir: str | os.PathLike[str]) -> SavedRun:
    """Loads a finished run.

    Raises:
        UsageError: the folder is not that of a finished run.
        RunError: a file of it is damaged.
    """
    folder = Path(run_dir)
    if not (folder / CONFIG_FILE).exists():
        raise UsageError(f"--run_dir={folder}: is not a run folder (no {CONFIG_FILE})")
    if not (folder / folders.STATUS_FILE).exists():
        raise UsageError(f"--run_dir={folder}: its training is not finished; run train on it again")
    config = Config.from_dict(read_json(folder / CONFIG_FILE))
    labels = folders.read_labels(folder)
    tasks, private = labels.task_classes, labels.private_classes
    single: dict[str, Bundle] = {}
    if config.train.model == "stl":
        for task, classes in tasks.items():
            weights = folder / "tasks" / task / "models"
            single[task] = _load(config, {task: len(classes)}, 0, weights)
        bundle = single[next(iter(tasks))]
    else:
        counts = {task: len(classes) for task, classes in tasks.items()}
        bundle = _load(config, counts, len(private), folder / "models")
    status = read_json(folder / folders.STATUS_FILE)
    if not isinstance(status, dict):
        raise RunError(f"{folder / folders.STATUS_FILE} is damaged: expected an object")
    if isinstance(status.get("dp"), dict):
        status["dp"] = checked_dp(status["dp"])
    return SavedRun(folder, config, tasks, private, bundle, single, labels.data_fingerprint, status)


def _load(config: Config, tasks: dict[str, int], private: int, folder: Path) -> Bundle:
    # The file has all weights; pre-trained ones need not be fetched first.
    model = dataclasses.replace(
        config.model, encoder_weights="none", backbone="", freeze_backbone=False
    )
    privacy = dataclasses.replace(config.privacy, dp_scope="discriminator")
    bundle = build_bundle(dataclasses.replace(config, model=model, privacy=privacy), tasks, private)
    load_bundle_weights(bundle, folder)
    return bundle
