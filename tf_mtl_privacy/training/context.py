"""Shared context of all parts of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.bundle import Bundle, build_bundle
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.private_updates import PrivatePlan, private_plan

Check = Callable[[Bundle, Dataset], Mapping[str, float]]


def ignore(text: str) -> None:
    """Drops a message; the default `report`."""


@dataclasses.dataclass
class RunContext:
    """One training run: its inputs, networks and progress.

    Attributes:
        config: the run's configuration.
        dataset: rows and labels.
        folder: for checkpoints, cached features and logs; one task's in a single-task run.
        tasks: names of the tasks that the classifier has.
        key: source of the randomness of private updates.
        bundle: the networks that are trained.
        plan: the private updates, None if there are none.
        state: counters and decisions, changed while training runs.
        report: receives progress messages, one line each.
        check: runs fresh attackers, see `fit`; None without one.
        show_images: show original and restored images in TensorBoard.
        public: with `--dp_scope=all`, why the frozen backbone is public; else empty.
        interrupted: returns True once the run has been asked to stop.
    """

    config: Config
    dataset: Dataset
    folder: Path
    tasks: tuple[str, ...]
    key: SecretKey
    bundle: Bundle
    plan: PrivatePlan | None
    state: TrainingState
    report: Callable[[str], None] = ignore
    check: Check | None = None
    show_images: bool = False
    public: str = ""
    interrupted: Callable[[], bool] = lambda: False

    @property
    def label(self) -> str:
        """Prefix of messages: the task of a single-task run, else empty."""
        return f"{self.tasks[0]}: " if self.config.train.model == "stl" else ""

    @property
    def all_private(self) -> bool:
        """True if every trained weight moves by private updates (`--dp_scope=all`)."""
        return self.config.privacy.dp_scope == "all"


def new_run(
    config: Config,
    dataset: Dataset,
    folder: Path,
    tasks: tuple[str, ...],
    key: SecretKey,
    *,
    report: Callable[[str], None] = ignore,
    check: Check | None = None,
    show_images: bool = False,
    public: str = "",
) -> RunContext:
    """Builds a run's networks, plans its private updates and sets it to its first phase.

    Arguments as the attributes of `RunContext`.

    Raises:
        UsageError: the networks or the private updates cannot be made as configured.
        RunError: ImageNet weights could not be fetched.
    """
    plan = private_plan(config, dataset, key)
    classes = {task: len(dataset.task_classes[task]) for task in tasks}
    bundle = build_bundle(config, classes, len(dataset.private_classes))
    state = TrainingState(
        phase=next(iter(schedule.phase_epochs(config))), beta=schedule.initial_beta(config)
    )
    return RunContext(
        *(config, dataset, folder, tasks, key, bundle, plan, state),
        report=report,
        check=check,
        show_images=show_images,
        public=public,
    )
