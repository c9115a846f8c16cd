"""Trains a whole run: the same thing from Python as from the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_json
from tf_mtl_privacy.models.bundle import Bundle, build_bundle, parameter_counts, save_bundle
from tf_mtl_privacy.training import run_dir as folders
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.dp_status import dp_status, noise_multipliers
from tf_mtl_privacy.training.journal import Journal
from tf_mtl_privacy.training.loop import Loop
from tf_mtl_privacy.training.phases import Phases, perceptual_weights
from tf_mtl_privacy.training.predict_images import predict_images
from tf_mtl_privacy.training.record import RunRecord
from tf_mtl_privacy.training.saved_run import SavedRun, load_run
from tf_mtl_privacy.training.state import Checkpoints

_PICTURES = 8


def fit(
    config: Config,
    dataset: Dataset | None = None,
    *,
    run_dir: str | os.PathLike[str],
    log_images: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> SavedRun:
    """Trains a run, or goes on with one that was stopped, and returns its networks.

    Args:
        config: what to train, on what, for how long.
        dataset: rows and labels; None opens (and prepares) the one that `config.data` names.
        run_dir: the run's folder. A finished run is loaded, not trained again.
        log_images: show a few originals and restored images in TensorBoard. Synthetic faces are
            always shown; pictures of real people only when this is True.
        report: gets one sentence per epoch, for people; nothing by default.

    Raises:
        UsageError: the folder holds another run, or the data cannot be trained on.
        RunError: a file cannot be written, a loss is not finite.
        KeyboardInterrupt: Ctrl-C; the run can be gone on with.
    """
    with folders.claim(run_dir, config) as folder:
        if not (folder / folders.STATUS_FILE).exists():
            dataset = dataset or open_dataset(config.data)
            check_trainable(config, dataset)
            labels = folders.RunLabels(
                dataset.task_classes, dataset.private_classes, dataset.fingerprint
            )
            folders.write_labels(folder, labels)
            show = log_images or config.data.dataset == "synthetic_faces"
            if config.train.model == "stl":
                status = {
                    task: _train(config, dataset, folder / "tasks" / task, (task,), show, report)
                    for task in dataset.task_classes
                }
                write_json(folder / folders.STATUS_FILE, _merge(config, status))
            else:
                status = _train(config, dataset, folder, tuple(dataset.task_classes), show, report)
                write_json(folder / folders.STATUS_FILE, status)
        return load_run(folder)


def check_trainable(config: Config, dataset: Dataset) -> None:
    """Refuses data on which training would make no sense.

    Raises:
        UsageError: no training or validation rows, or fewer than two private classes.
    """
    for split in ("train", "validation"):
        if not len(dataset.rows[split]):
            raise UsageError(
                f"--dataset={config.data.dataset}: has no {split} rows; it cannot be trained on"
            )
    if config.train.has_discriminator:
        labels = dataset.labels_of(dataset.rows["train"]).private
        if len(np.unique(labels[labels >= 0])) < 2:
            raise UsageError(
                f"--private_label={config.data.effective_private_label}: the training rows have "
                "fewer than two classes of it"
            )


def _train(
    config: Config,
    dataset: Dataset,
    folder: Path,
    tasks: tuple[str, ...],
    show: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    private_dir(folder)
    classes = {task: len(dataset.task_classes[task]) for task in tasks}
    bundle = build_bundle(config, classes, len(dataset.private_classes))
    record = RunRecord(
        phase=next(iter(schedule.phase_epochs(config))), beta=schedule.initial_beta(config)
    )
    train_rows = dataset.rows["train"]
    labelled = int(np.sum(dataset.labels_of(train_rows).private >= 0))
    noise = noise_multipliers(config, max(labelled, 1), len(train_rows))
    phases = Phases(config, dataset, bundle, tasks, noise, folder / "features", record)
    checkpoints = Checkpoints(folder / "checkpoints", _groups(bundle, phases))
    saved = checkpoints.restore()
    if saved is not None:
        for name, value in saved.items():
            setattr(record, name, value)
    journal = Journal(folder, record.lines)
    label = f"{tasks[0]}: " if config.train.model == "stl" else ""
    try:
        Loop(config, phases, record, checkpoints, journal, label, report).run()
        if show and bundle.restorer is not None:
            _show(bundle, dataset, journal, record.total_steps)
    finally:
        journal.close()
    save_bundle(bundle, folder / "models")
    return _status(config, record, bundle, noise, tasks)


def _groups(bundle: Bundle, phases: Phases) -> dict[str, Any]:
    """Every variable that training changes, by owner."""
    groups = {
        name: model.variables
        for name in ("encoder", "business", "discriminator", "restorer")
        if (model := getattr(bundle, name)) is not None
    }
    return groups | {f"{name}_optimizer": o.variables for name, o in phases.optimizers.items()}


def _show(bundle: Bundle, dataset: Dataset, journal: Journal, step: int) -> None:
    images = dataset.store.images(dataset.rows["validation"][:_PICTURES])
    journal.pictures("original", step, images)
    restored = predict_images(bundle, images, restore=True).restored
    if restored is not None:
        journal.pictures("restored", step, restored)


def _status(
    config: Config,
    record: RunRecord,
    bundle: Bundle,
    noise: dict[str, float],
    tasks: tuple[str, ...],
) -> dict[str, Any]:
    phases = {
        name: {
            "epochs": record.epochs.get(name, 0),
            "most_epochs": most,
            "steps": record.steps.get(name, 0),
            "seconds": round(record.seconds.get(name, 0.0), 1),
        }
        for name, most in schedule.phase_epochs(config).items()
    }
    return {
        "gates": _gates(config, record, tasks),
        "stop_rule": record.stop_rule or schedule.stop_rule(config, [], tasks),
        "training": {
            "model": config.train.model,
            "phases": phases,
            "steps": record.total_steps,
            "seconds": round(sum(record.seconds.values()), 1),
            "final_beta": record.beta,
            "parameters": parameter_counts(bundle),
            "perceptual_loss": perceptual_weights(config),
        },
        "dp": dp_status(config, noise, record.private_steps),
    }


def _gates(config: Config, record: RunRecord, tasks: tuple[str, ...]) -> dict[str, Any]:
    """The gates of all pre-training phases; one whose phase did not run is "not_evaluated"."""
    gates = {}
    for phase, most in schedule.phase_epochs(config).items():
        missing = schedule.gate(config, phase, {}, tasks)
        if missing is not None:
            gates[phase] = record.gates.get(phase, missing | {"epochs": 0, "bound": most})
    return gates


def _merge(config: Config, status: dict[str, Any]) -> dict[str, Any]:
    """One status for the networks of a single-task run."""
    return {
        "gates": {
            f"{task}/{n}": g for task, part in status.items() for n, g in part["gates"].items()
        },
        "stop_rule": {
            "met": all(part["stop_rule"]["met"] for part in status.values()),
            "parts": {
                f"{task}/{name}": value
                for task, part in status.items()
                for name, value in part["stop_rule"]["parts"].items()
            },
        },
        "training": {
            "model": config.train.model,
            "tasks": {task: part["training"] for task, part in status.items()},
            "steps": sum(part["training"]["steps"] for part in status.values()),
            "seconds": round(sum(part["training"]["seconds"] for part in status.values()), 1),
        },
        "dp": dp_status(config, {}, {}),
    }
