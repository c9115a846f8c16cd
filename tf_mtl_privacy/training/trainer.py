"""Runs phases epoch by epoch: steps, validation, decisions, checkpoints.

What the figures of a finished epoch decide: gates, the next beta, the stop rule.

What is said of an epoch while training runs, in one line.

Ctrl-C that waits for the current step, so that a checkpoint never holds half an update.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Protocol

import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.sampling import prefetch
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.rounding import percent_up
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.checkpoints import DONE, Checkpoints, TrainingState
from tf_mtl_privacy.training.checks import Checks
from tf_mtl_privacy.training.metrics_logger import MetricsLogger
from tf_mtl_privacy.training.phase import Phase


def decide(
    config: Config,
    record: TrainingState,
    phase: Phase,
    tasks: tuple[str, ...],
    figures: Mapping[str, float],
    *,
    last: bool,
) -> bool:
    """Books what a finished epoch decides; returns whether the phase is over early.

    Args:
        config: the run's configuration.
        record: where the run stands, with this epoch counted; changed in place.
        phase: the one that the epoch was of.
        tasks: names of the business tasks.
        figures: of validation rows, by name.
        last: whether no epoch of the phase follows anyhow.
    """
    if phase.name != "adversarial":
        gate = schedule.gate(config, phase.name, figures, tasks)
        if gate is None:
            return False
        record.gates[phase.name] = gate | {"epochs": record.epoch, "bound": phase.epochs}
        return config.train.early_gates and gate["status"] == "met"
    record.history.append(dict(figures))
    record.stop_rule = schedule.stop_rule(config, record.history, tasks)
    finished = last or bool(record.stop_rule["met"])
    if config.train.is_adversarial and not finished:
        record.beta = schedule.next_beta(
            config.loss,
            record.beta,
            record.epoch,
            phase.epochs,
            figures.get("privacy_balanced_accuracy"),
        )
    return finished


def epoch_line(phase: Phase, epoch: int, figures: Mapping[str, float], seconds: float) -> str:
    """One epoch in one line: phase, epoch, validation figures, time."""
    return f"{phase.name} {epoch}/{phase.epochs}: {shown_figures(figures)} ({seconds:.0f} s)"


def shown_figures(figures: Mapping[str, float]) -> str:
    """Validation figures in one line."""
    shown = []
    for name, value in figures.items():
        if name == "psnr_db":
            shown.append(f"PSNR {value:.1f} dB")
        elif name == "privacy_balanced_accuracy":
            shown.append(f"in-loop discriminator {100 * value:.1f} %")
        elif name == "fresh_probe_balanced_accuracy":
            upper = figures.get("fresh_probe_upper")
            most = "" if upper is None else f" (upper end {percent_up(upper)})"
            shown.append(f"fresh attacker {100 * value:.1f} %{most}")
        elif name == "membership_success_rate":
            shown.append(f"membership inference {100 * value:.1f} %")
        elif name not in ("privacy_accuracy", "fresh_probe_upper"):
            shown.append(f"{name.removesuffix('_accuracy')} {100 * value:.1f} %")
    return ", ".join(shown)


class Interrupt:
    """While active, the first Ctrl-C or SIGTERM only sets `requested`; a second acts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        # Python delivers signals to the main thread only; elsewhere there is nothing to catch.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.requested and kind is None:
            # It came too late for a step to see it; it must not be lost all the same.
            raise KeyboardInterrupt

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class PhaseBuilder(Protocol):
    """Builds a run's phases; see phases.py and private_phases.py."""

    tasks: tuple[str, ...]
    interrupted: Callable[[], bool]

    def build(self, name: str) -> Phase:
        """The phase called `name`."""
        ...

    def close(self) -> None:
        """Deletes what was kept for the phases."""
        ...


class Loop:
    """Takes a run from where its record stands to the end.

    Args:
        config: the run's configuration.
        phases: builds the phases.
        record: where the run stands; changed in place.
        checkpoints: saved at every epoch's end, every `checkpoint_steps`, and on interruption.
        journal: gets one line per epoch.
        spending: counts private updates before they run; None where there are none.
        label: put before the phase's name in the progress bar and in reports.
        report: gets one sentence per epoch, for people.
        checks: called before the joint phase and after its epochs; None where nothing is checked.
    """

    def __init__(
        self,
        config: Config,
        phases: PhaseBuilder,
        record: TrainingState,
        checkpoints: Checkpoints,
        journal: MetricsLogger,
        spending: BudgetEnforcer | None = None,
        label: str = "",
        report: Callable[[str], None] = lambda text: None,
        checks: Checks | None = None,
    ) -> None:
        self._config, self._phases, self._record = config, phases, record
        self._checkpoints, self._journal, self._label = checkpoints, journal, label
        self._spending, self._report, self._checks = spending, report, checks
        self._mark = time.monotonic()

    def run(self) -> None:
        """Runs to the end.

        Raises:
            RunError: a loss is not a finite number; the last good checkpoint is kept.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the finished step is checkpointed.
        """
        names = list(schedule.phase_epochs(self._config))
        self._mark = time.monotonic()
        with Interrupt() as interrupt:
            self._phases.interrupted = lambda: interrupt.requested
            try:
                while self._record.phase != DONE:
                    name = self._record.phase
                    if schedule.phase_epochs(self._config)[name] > 0:
                        self._run_phase(self._phases.build(name), interrupt)
                    self._book_time()
                    following = names[names.index(name) + 1 :]
                    self._record.enter(following[0] if following else DONE)
                    self._save()
            finally:
                self._phases.close()

    def _run_phase(self, phase: Phase, interrupt: Interrupt) -> None:
        record, checks = self._record, self._checks if phase.name == "adversarial" else None
        if checks is not None and checks.before_game(record):
            self._report(f"{self._label}before the game: {shown_figures(record.before_game)}")
            self._save()
        while record.epoch < phase.epochs:
            started = time.monotonic()
            if record.step == 0:
                if not self._covered(phase):
                    self._end_between_epochs(phase, checks)
                    break
                phase.before_epoch(record.epoch)
            spent = not self._run_steps(phase, interrupt)
            means = record.finish_epoch()
            figures, beta = phase.validate(), record.beta
            last = spent or record.epoch == phase.epochs
            if checks is not None:
                figures |= checks.figures(record.epoch, last=last)
            finished = decide(self._config, record, phase, self._phases.tasks, figures, last=last)
            if checks is not None:
                checks.keep(record, last=last)
            line: dict[str, Any] = {"epoch": record.epoch, **means}
            line |= {f"validation_{name}": value for name, value in figures.items()}
            if phase.name == "adversarial":
                warmup = self._config.game.beta_warmup_epochs
                line |= {"beta": schedule.warmed_beta(beta, record.epoch, warmup)}
            self._journal.epoch(phase.name, record.total_steps, line)
            record.lines = self._journal.lines
            seconds = time.monotonic() - started
            self._report(f"{self._label}{epoch_line(phase, record.epoch, figures, seconds)}")
            if finished or spent:
                # The phase is over: a run that resumes here must not start another epoch of it.
                record.epoch = phase.epochs
            self._save()
            if checks is not None:
                checks.tidy(record)
            if interrupt.requested:
                raise KeyboardInterrupt

    def _end_between_epochs(self, phase: Phase, checks: Checks | None) -> None:
        """No budget is left for another epoch: the one before, if any, was the last."""
        record, config = self._record, self._config
        if not record.epoch:
            # What is fitted before the first step (the erasure) is part of what is released.
            phase.before_epoch(0)
        # Where a check was due anyhow it was made.
        due = schedule.check_due(config.game.check_epochs, record.epoch, last=False)
        if checks is not None and record.epoch and not due:
            figures = checks.figures(record.epoch, last=True)
            record.history[-1] |= figures
            record.stop_rule = schedule.stop_rule(config, record.history, self._phases.tasks)
            checks.keep(record, last=True)
            self._report(f"{self._label}after the last epoch: {shown_figures(figures)}")
        record.epoch = phase.epochs
        self._save()
        if checks is not None:
            checks.tidy(record)

    def _run_steps(self, phase: Phase, interrupt: Interrupt) -> bool:
        """The rest of an epoch; returns False where a privacy budget ended it early."""
        record, steps = self._record, phase.steps_per_epoch
        if record.step >= steps:
            return True
        label = f"{self._label}{phase.name} {record.epoch + 1}/{phase.epochs}"
        with Progress(steps - record.step, label) as progress:
            for inputs in prefetch(self._inputs(phase)):
                # An epoch's first step was covered before the epoch began.
                if record.step and not self._covered(phase):
                    return False
                values = self._step(phase, inputs)
                self._check_finite(phase, values)
                record.count_step(values)
                progress.update(
                    note=", ".join(f"{name} {value:.3f}" for name, value in values.items())
                )
                if interrupt.requested:
                    self._save()
                    raise KeyboardInterrupt
                if record.step % self._config.train.checkpoint_steps == 0 and record.step < steps:
                    self._save()
        return True

    def _covered(self, phase: Phase) -> bool:
        """Whether the next step may run; where no budget is left it says so, and books it."""
        record = self._record
        left = (phase.epochs - record.epoch) * phase.steps_per_epoch - record.step
        if self._spending is None or self._spending.cover(phase.name, left):
            return True
        record.budget_ended[phase.name] = left
        self._report(
            f"{self._label}{phase.name}: its privacy budget is spent with {left} steps to go; it "
            "ends here"
        )
        return False

    def _step(self, phase: Phase, inputs: Any) -> dict[str, float]:
        try:
            return {name: float(value) for name, value in phase.step(inputs).items()}
        except tf.errors.InvalidArgumentError as error:
            # The private optimizer refuses an update whose gradients overflow.
            if "no update was made" not in str(error):
                raise
            raise RunError(
                f"gradients overflow at step {self._record.step + 1} of epoch "
                f"{self._record.epoch + 1} of phase {phase.name}; "
                f"{self._checkpoints.kept()}"
            ) from error

    def _inputs(self, phase: Phase) -> Iterator[Any]:
        epoch, first = self._record.epoch, self._record.step
        for step in range(first, phase.steps_per_epoch):
            yield phase.inputs(epoch, step)

    def _check_finite(self, phase: Phase, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(
                    f"{name} is {value} at step {self._record.step + 1} of epoch "
                    f"{self._record.epoch + 1} of phase {phase.name}; {self._checkpoints.kept()}: "
                    "start the run again with a smaller learning rate in a new run folder"
                )

    def _book_time(self) -> None:
        record, now = self._record, time.monotonic()
        if record.phase != DONE:
            seconds = record.seconds.get(record.phase, 0.0)
            record.seconds[record.phase] = seconds + now - self._mark
        self._mark = now

    def _save(self) -> None:
        self._book_time()
        if self._spending is not None:
            self._record.ledger_counted = self._spending.counted()
        self._checkpoints.save(self._record.to_dict())
        if self._spending is not None:
            self._spending.settle()
