"""Trains a whole run: the same thing from Python as from the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
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
from tf_mtl_privacy.models.bundle import Bundle, build_bundle, save_bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.privacy.keys import SecretKey, key_for_tests, secret_key
from tf_mtl_privacy.removal.mask import switch_mask
from tf_mtl_privacy.removal.noise import count_draws, draw_anew
from tf_mtl_privacy.start_files import check_start_files
from tf_mtl_privacy.training import run_dir as folders
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.checkpoints import Checkpoints, TrainingState
from tf_mtl_privacy.training.checks import Checks
from tf_mtl_privacy.training.dp_status import dp_status, merged_status, training_status
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.metrics_logger import MetricsLogger
from tf_mtl_privacy.training.phases import Phases
from tf_mtl_privacy.training.private_phases import PrivatePhases
from tf_mtl_privacy.training.private_updates import PrivatePlan, private_plan, with_bounded_people
from tf_mtl_privacy.training.saved_run import SavedRun, load_run
from tf_mtl_privacy.training.trainer import Loop
from tf_mtl_privacy.training.validate_inputs import check_keeping, check_rows_apart, check_trainable

_PICTURES = 8
Check = Callable[[Bundle, Dataset], Mapping[str, float]]


def fit(
    config: Config,
    dataset: Dataset | None = None,
    *,
    run_dir: str | os.PathLike[str],
    log_images: bool = False,
    test_key: int | None = None,
    report: Callable[[str], None] = lambda text: None,
    check: Check | None = None,
) -> SavedRun:
    """Trains a run, or goes on with one that was stopped, and returns its networks.

    Args:
        config: what to train, on what, for how long.
        dataset: rows and labels; None opens (and prepares) the one that `config.data` names.
        run_dir: the run's folder. A finished run is loaded, not trained again. Where it fails
            before anything was trained, what it has made there is removed.
        log_images: show a few originals and restored images in TensorBoard. Synthetic faces are
            always shown; pictures of real people only when this is True.
        test_key: for tests: fixes sampling and noise of private updates, which voids every
            guarantee of the run, and is booked as such. None takes keys from the system.
        report: gets what the configuration asks for in vain, then one sentence per epoch, for
            people; nothing by default.
        check: what attackers find: networks and data -> figures, of which the stop rule reads
            `fresh_probe_upper` (the upper end of an interval; the figure itself is shown, as
            `fresh_probe_balanced_accuracy`) and `membership_success_rate`. Called before the joint
            phase, with the mask off, and after its epochs as `--check_epochs` says. It must depend
            on its arguments alone.

    Raises:
        UsageError: the folder holds another run, weights or a backbone are missing, the data
            cannot be trained on, Keras is set to something else than float32 and channels last, or
            `--checkpoint_selection=best` without a check.
        RunError: a file cannot be written, ImageNet weights cannot be fetched, a loss is not
            finite.
        KeyboardInterrupt: Ctrl-C; the run can be gone on with.
    """
    with folders.claim(run_dir, config) as folder:
        if not (folder / folders.STATUS_FILE).exists():
            check_keeping(config, checked=check is not None)
            # Before the data, which may take long to prepare.
            check_start_files(config)
            for note in notes(config):
                report(note)
            given = dataset is not None
            public = ""
            if config.privacy.dp_scope == "all":
                public = public_source(config, given=given)
            key = secret_key() if test_key is None else key_for_tests(test_key)
            dataset = with_bounded_people(config, dataset or open_dataset(config.data))
            if given and dataset.key_folder is not None and config.data.cache_dir:
                cache = cache_folder(config.data.cache_dir)
                dataset = dataclasses.replace(dataset, key_folder=cache)
            check_trainable(config, dataset)
            for text in class_warnings(dataset):
                report(f"warning: {text}")
            labels = folders.RunLabels(
                dataset.task_classes,
                dataset.private_classes,
                _fingerprint(folder, config, dataset),
                "" if given else config.data.dataset,
            )
            folders.write_labels(folder, labels)
            show = log_images or (config.data.dataset == "synthetic_faces" and not given)
            if config.train.model == "stl":
                status = {
                    task: _train(
                        config, dataset, folder / "tasks" / task, (task,), key, show, report, None
                    )
                    for task in dataset.task_classes
                }
                write_json(folder / folders.STATUS_FILE, merged_status(config, status))
            else:
                tasks = tuple(dataset.task_classes)
                status = _train(config, dataset, folder, tasks, key, show, report, check, public)
                write_json(folder / folders.STATUS_FILE, status)
        return load_run(folder)


def _fingerprint(folder: Path, config: Config, dataset: Dataset) -> str:
    """The fingerprint that the run has recorded, where it is of this data; else the data's own.

    Raises:
        RunError: the secret of the recorded one is not there.
    """
    if not (folder / LABELS_FILE).exists():
        return dataset.fingerprint
    recorded = folders.read_labels(folder).data_fingerprint
    cache = cache_folder(config.data.cache_dir)
    if not recorded:
        return recorded  # a run that does not know its data is taken at its word
    same = dataset.matches(recorded, cache)
    if same is None:
        raise RunError(
            f"run folder {folder}: cannot tell if the data has changed since the run began, as "
            + unknown_key(recorded, cache)
        )
    return recorded if same else dataset.fingerprint


def _train(
    config: Config,
    dataset: Dataset,
    folder: Path,
    tasks: tuple[str, ...],
    key: SecretKey,
    show: bool,
    report: Callable[[str], None],
    check: Check | None,
    public: str = "",
) -> dict[str, Any]:
    private_dir(folder)
    plan = private_plan(config, dataset, key)
    for budget in plan.budgets if plan is not None else ():
        if budget.missed:
            report(f"note: {budget.missed}")
    classes = {task: len(dataset.task_classes[task]) for task in tasks}
    bundle = build_bundle(config, classes, len(dataset.private_classes))
    if plan is None:
        # Under DP the noise is anew in every call: what follows from the run's seed and a row's
        # place in its batch would change with every row that comes or goes.
        count_draws(bundle.encoder, 1 + layer_seed(config.train.seed, "encoder/noise"))
    record = TrainingState(
        phase=next(iter(schedule.phase_epochs(config))), beta=schedule.initial_beta(config)
    )
    if plan is not None:
        check_rows_apart(bundle, dataset)
    phases = _phases(config, dataset, bundle, tasks, plan, key, folder / "features", record)
    checkpoints = Checkpoints(folder / "checkpoints", _groups(bundle, phases))
    saved = checkpoints.restore()
    if saved is not None:
        for name, value in saved.items():
            setattr(record, name, value)
        if record.public != public:
            raise RunError(
                f"run folder {folder}: it began on {record.public}, but --backbone is now "
                f"{public}; put the first one back"
            )
    record.public = public
    journal = MetricsLogger(folder, record.lines)
    checks = Checks(
        config,
        bundle,
        folder / "checkpoints" / "best",
        None if check is None else lambda: check(bundle, dataset),
        lambda: {name: o.iterations for name, o in phases.private_optimizers.items()},
    )
    label = f"{tasks[0]}: " if config.train.model == "stl" else ""
    with contextlib.ExitStack() as stack:
        stack.callback(journal.close)
        spending = None
        if plan is not None:
            spending = stack.enter_context(_spending(config, plan, phases, record, key, folder))
        Loop(config, phases, record, checkpoints, journal, spending, label, report, checks).run()
        checks.restore(record)
        switch_mask(bundle.encoder, on=True)
        draw_anew(bundle.encoder)
        if show and bundle.restorer is not None:
            _show(bundle, dataset, journal, record.total_steps)
    save_bundle(bundle, folder / "models")
    counts = checks.updates_in_weights(record)
    state = spending.state if spending else None
    early, ended = _early(config, record), record.budget_ended
    dp = dp_status(config, plan, state, counts, ended, early, public, dataset.name)
    return training_status(config, record, bundle, dp, tasks)


def _early(config: Config, record: TrainingState) -> list[str]:
    """Phases that a gate or the stop rule ended."""
    return [
        name
        for name, most in schedule.phase_epochs(config).items()
        if record.epochs.get(name, 0) < most and name not in record.budget_ended
    ]


def _phases(config: Config, *arguments: Any) -> Phases | PrivatePhases:
    return (PrivatePhases if config.privacy.dp_scope == "all" else Phases)(config, *arguments)


def _spending(
    config: Config,
    plan: PrivatePlan,
    phases: Phases | PrivatePhases,
    record: TrainingState,
    key: SecretKey,
    folder: Path,
) -> BudgetEnforcer:
    reasons = ["sampling and noise come from a fixed key"] if key.is_test else []
    if any(update.mechanism.noise_multiplier == 0 for update in plan.updates.values()):
        reasons.append("the noise multiplier is zero")
    spending = BudgetEnforcer(
        private_dir(folder / "checkpoints"),
        plan,
        phases.private_optimizers,
        run_id=record.ledger_id,
        counted=record.ledger_counted,
        block=config.train.checkpoint_steps,
        void="; ".join(reasons),
    )
    record.ledger_id = spending.run_id
    return spending


def _groups(bundle: Bundle, phases: Phases | PrivatePhases) -> dict[str, Any]:
    """Every variable that training changes, by owner."""
    groups = {
        name: model.variables
        for name in ("encoder", "business", "discriminator", "restorer")
        if (model := getattr(bundle, name)) is not None
    }
    optimizers = phases.optimizers | {
        f"private_{name}": optimizer for name, optimizer in phases.private_optimizers.items()
    }
    groups |= phases.further_networks
    return groups | {f"{name}_optimizer": o.variables for name, o in optimizers.items()}


def _show(bundle: Bundle, dataset: Dataset, journal: MetricsLogger, step: int) -> None:
    images = dataset.store.images(dataset.rows["validation"][:_PICTURES])
    journal.pictures("original", step, images)
    restored = predict_images(bundle, images, restore=True).restored
    if restored is not None:
        journal.pictures("restored", step, restored)
