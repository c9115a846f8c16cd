"""Trains a whole run: the same from Python as from the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import LABELS_FILE, Config
from tf_mtl_privacy.config.run import notes
from tf_mtl_privacy.data.dataset import Dataset, class_warnings
from tf_mtl_privacy.data.fingerprints import unknown_key
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.store import cache_folder
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir, write_json
from tf_mtl_privacy.models.backbone import public_source
from tf_mtl_privacy.models.bundle import save_bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.privacy.keys import key_for_tests, secret_key
from tf_mtl_privacy.removal import methods, release
from tf_mtl_privacy.start_files import check_start_files
from tf_mtl_privacy.training import run_dir as folders
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.checkpoints import Checkpoints
from tf_mtl_privacy.training.checks import Checks
from tf_mtl_privacy.training.context import Check, RunContext, ignore, new_run
from tf_mtl_privacy.training.dp_status import dp_status, merged_status, training_status
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.metrics_logger import MetricsLogger
from tf_mtl_privacy.training.phases import BasePhases, make_phases
from tf_mtl_privacy.training.private_updates import with_bounded_people
from tf_mtl_privacy.training.saved_run import SavedRun, load_run
from tf_mtl_privacy.training.trainer import Loop
from tf_mtl_privacy.training.validate_inputs import (
    check_checkpoint_selection,
    check_removal,
    check_rows_apart,
    check_trainable,
)

_SHOWN_IMAGES = 8


def fit(
    config: Config,
    dataset: Dataset | None = None,
    *,
    run_dir: str | os.PathLike[str],
    log_images: bool = False,
    test_key: int | None = None,
    report: Callable[[str], None] = ignore,
    check: Check | None = None,
) -> SavedRun:
    """Trains a run, or resumes one that was stopped, and returns its networks.

    Args:
        config: model, data and length of the training.
        dataset: rows and labels; None opens (and prepares) the data set that `config.data` names.
        run_dir: the run's folder. A finished run is loaded, not trained again. If training fails
            before its first checkpoint, the files that it has made there are removed.
        log_images: show a few original and restored images in TensorBoard. Synthetic faces are
            always shown; images of real people only if this is True.
        test_key: for tests: fixes sampling and noise of private updates. This voids every guarantee
            of the run, and is recorded. None takes keys from the system.
        report: receives notes on options without effect, then one line per epoch.
        check: runs fresh attackers: networks and data -> figures. The stop rule reads
            `fresh_probe_upper` (the upper end of an interval around
            `fresh_probe_balanced_accuracy`) and `membership_success_rate`. Called before the joint
            phase, with the mask off, and after its epochs according to `--check_epochs`. It must
            depend on its arguments only.

    Raises:
        UsageError: the folder holds another run, weights or a backbone are missing, the data
            cannot be trained on, Keras is not set to float32 and channels last, or
            `--checkpoint_selection=best` without a check.
        RunError: a file cannot be written, ImageNet weights cannot be fetched, a loss is not
            finite.
        KeyboardInterrupt: Ctrl-C; the same call resumes the run.
    """
    with folders.claim(run_dir, config) as folder:
        if not folders.has_finished(folder):
            check_checkpoint_selection(config, checked=check is not None)
            # Before the data, which may take long to prepare.
            check_start_files(config)
            check_removal(config)
            for note in notes(config):
                report(note)
            given = dataset is not None
            public = public_source(config, given=given) if config.privacy.dp_scope == "all" else ""
            key = secret_key() if test_key is None else key_for_tests(test_key)
            dataset = _checked(config, dataset or open_dataset(config.data), given, report)
            labels = folders.RunLabels(
                dataset.task_classes,
                dataset.private_classes,
                _fingerprint(folder, config, dataset),
                "" if given else config.data.dataset,
            )
            folders.write_labels(folder, labels)
            common: dict[str, Any] = {
                "report": report,
                "show_images": log_images
                or (config.data.dataset == "synthetic_faces" and not given),
                "public": public,
            }
            if config.train.model == "stl":
                status = {}
                for task in dataset.task_classes:
                    place = private_dir(folder / "tasks" / task)
                    status[task] = _train(new_run(config, dataset, place, (task,), key, **common))
                write_json(folder / folders.STATUS_FILE, merged_status(config, status))
            else:
                tasks = tuple(dataset.task_classes)
                run = new_run(config, dataset, folder, tasks, key, check=check, **common)
                write_json(folder / folders.STATUS_FILE, _train(run))
        return load_run(folder)


def _checked(
    config: Config, dataset: Dataset, given: bool, report: Callable[[str], None]
) -> Dataset:
    """Limits the rows of each person, checks the data set and returns it."""
    dataset = with_bounded_people(config, dataset)
    if given and dataset.key_folder is not None and config.data.cache_dir:
        dataset = dataclasses.replace(dataset, key_folder=cache_folder(config.data.cache_dir))
    check_trainable(config, dataset)
    for text in class_warnings(dataset):
        report(f"warning: {text}")
    return dataset


def _fingerprint(folder: Path, config: Config, dataset: Dataset) -> str:
    """Returns the recorded fingerprint if it is of this data, else the data's own.

    Raises:
        RunError: the secret of the recorded one is missing.
    """
    if not (folder / LABELS_FILE).exists():
        return dataset.fingerprint
    recorded = folders.read_labels(folder).data_fingerprint
    cache = cache_folder(config.data.cache_dir)
    if not recorded:
        return recorded  # a run that did not record its data cannot be compared
    same = dataset.matches(recorded, cache)
    if same is None:
        raise RunError(
            f"run folder {folder}: cannot tell if the data has changed since the run began, as "
            + unknown_key(recorded, cache)
        )
    return recorded if same else dataset.fingerprint


def _train(run: RunContext) -> dict[str, Any]:
    """Trains a run's networks to the end and saves them; returns their status."""
    config, bundle, state = run.config, run.bundle, run.state
    for budget in run.plan.budgets if run.plan is not None else ():
        if budget.missed:
            run.report(f"note: {budget.missed}")
    if run.plan is None:
        # Under DP every call draws its noise anew: noise that follows from the run's seed and a
        # row's place in its batch would change with every row that is added or removed.
        for method in methods(config):
            method.start(bundle.encoder, 1 + layer_seed(config.train.seed, "encoder/noise"))
    else:
        check_rows_apart(bundle, run.dataset)
    phases = make_phases(run)
    checkpoints = Checkpoints(run.folder / "checkpoints", _variables(run, phases))
    _restore(run, checkpoints)
    logger = MetricsLogger(run.folder, state.lines)
    checks = Checks(
        run, lambda: {name: o.iterations for name, o in phases.private_optimizers.items()}
    )
    enforcer = None
    with contextlib.ExitStack() as stack:
        stack.callback(logger.close)
        if run.plan is not None:
            enforcer = stack.enter_context(_enforcer(run, phases))
        Loop(run, phases, checkpoints, logger, enforcer, checks).run()
        checks.restore(state)
        release(bundle.encoder)
        if run.show_images and bundle.restorer is not None:
            _show(run, logger)
    save_bundle(bundle, run.folder / "models")
    dp = dp_status(
        config,
        run.plan,
        enforcer.state if enforcer else None,
        checks.updates_in_weights(state),
        state.budget_ended,
        state.ended_early(schedule.phase_epochs(config)),
        run.public,
        run.dataset.name,
    )
    return training_status(run, dp)


def _restore(run: RunContext, checkpoints: Checkpoints) -> None:
    """Restores the newest checkpoint, if there is one."""
    saved = checkpoints.restore()
    if saved is not None:
        for name, value in saved.items():
            setattr(run.state, name, value)
        # As earlier versions worded it.
        begun = run.state.public.replace(
            "which are drawn and of nobody", "which show no real person"
        )
        if begun != run.public:
            raise RunError(
                f"run folder {run.folder}: it began on {begun}, but --backbone is now "
                f"{run.public}; restore the first backbone"
            )
    run.state.public = run.public


def _enforcer(run: RunContext, phases: BasePhases) -> BudgetEnforcer:
    assert run.plan is not None
    reasons = ["sampling and noise come from a fixed key"] if run.key.is_test else []
    if any(update.mechanism.noise_multiplier == 0 for update in run.plan.updates.values()):
        reasons.append("the noise multiplier is zero")
    enforcer = BudgetEnforcer(
        private_dir(run.folder / "checkpoints"),
        run.plan,
        phases.private_optimizers,
        run_id=run.state.ledger_id,
        counted=run.state.ledger_counted,
        block=run.config.train.checkpoint_steps,
        void="; ".join(reasons),
    )
    run.state.ledger_id = enforcer.run_id
    return enforcer


def _variables(run: RunContext, phases: BasePhases) -> dict[str, Any]:
    """Returns the variables that training changes, by owner, in the order of old checkpoints."""
    groups: dict[str, Any] = {name: model.variables for name, model in run.bundle.items()}
    optimizers = phases.optimizers | {
        f"private_{name}": optimizer for name, optimizer in phases.private_optimizers.items()
    }
    groups |= phases.networks
    return groups | {f"{name}_optimizer": o.variables for name, o in optimizers.items()}


def _show(run: RunContext, logger: MetricsLogger) -> None:
    dataset, step = run.dataset, run.state.total_steps
    images = dataset.store.images(dataset.rows["validation"][:_SHOWN_IMAGES])
    logger.pictures("original", step, images)
    restored = predict_images(run.bundle, images, restore=True).restored
    if restored is not None:
        logger.pictures("restored", step, restored)
