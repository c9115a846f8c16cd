"""Runs phases epoch by epoch: steps, validation, decisions, checkpoints."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Protocol

import tensorflow as tf

from tf_mtl_privacy.data.sampling import prefetch
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.checkpoints import DONE, Checkpoints
from tf_mtl_privacy.training.checks import Checks
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.metrics_logger import (
    MetricsLogger,
    phase_label,
    phase_name,
    shown_figures,
    shown_losses,
)
from tf_mtl_privacy.types import Phase


class PhaseBuilder(Protocol):
    """Builds a run's phases; see phases.py."""

    def build(self, name: str) -> Phase:
        """Builds the phase called `name`."""
        ...

    def close(self) -> None:
        """Deletes the features cached for the phases."""
        ...


class Loop:
    """Takes a run from its current state to the end.

    Args:
        run: the run; its state is changed in place.
        phases: builds the phases.
        checkpoints: saved at every epoch's end, every `checkpoint_steps`, and on interruption.
        logger: gets one line per epoch.
        budget: counts private updates before they run; None without private updates.
        checks: called before the joint phase and after its epochs; None if nothing is checked.
    """

    def __init__(
        self,
        run: RunContext,
        phases: PhaseBuilder,
        checkpoints: Checkpoints,
        logger: MetricsLogger,
        budget: BudgetEnforcer | None = None,
        checks: Checks | None = None,
    ) -> None:
        self._run, self._config, self._state = run, run.config, run.state
        self._phases, self._checkpoints, self._logger = phases, checkpoints, logger
        self._budget, self._checks = budget, checks
        self._mark = time.monotonic()

    def run(self) -> None:
        """Runs to the end.

        Raises:
            RunError: a loss is not a finite number; the last good checkpoint is kept.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the finished step is checkpointed.
        """
        epochs = schedule.phase_epochs(self._config)
        names = list(epochs)
        self._mark = time.monotonic()
        with Interrupt() as interrupt:
            self._run.interrupted = lambda: interrupt.requested
            try:
                while self._state.phase != DONE:
                    name = self._state.phase
                    if epochs[name] > 0:
                        self._run_phase(self._phases.build(name))
                    self._book_time()
                    following = names[names.index(name) + 1 :]
                    self._state.enter(following[0] if following else DONE)
                    self._save()
            finally:
                self._phases.close()

    def _run_phase(self, phase: Phase) -> None:
        state, checks = self._state, self._checks if phase.name == "adversarial" else None
        if checks is not None and checks.before_game(state):
            self._report(f"before joint training: {shown_figures(state.before_game)}")
            self._save()
        while state.epoch < phase.epochs:
            started = time.monotonic()
            if state.step == 0:
                if not self._covered(phase):
                    self._end_between_epochs(phase, checks)
                    break
                phase.before_epoch(state.epoch)
            exhausted = not self._run_steps(phase)
            means = state.finish_epoch()
            figures, beta = phase.validate(), state.beta
            last = exhausted or state.epoch == phase.epochs
            if checks is not None:
                figures |= checks.figures(state.epoch, last=last)
            finished = self._decide(phase, figures, last=last)
            if checks is not None:
                checks.keep(state, last=last)
            line: dict[str, Any] = {"epoch": state.epoch, **means}
            line |= {f"validation_{name}": value for name, value in figures.items()}
            if phase.name == "adversarial":
                warmup = self._config.game.beta_warmup_epochs
                line |= {"beta": schedule.warmed_beta(beta, state.epoch, warmup)}
            self._logger.epoch(phase.name, state.total_steps, line)
            state.lines = self._logger.lines
            label = phase_label(phase.name, state.epoch, phase.epochs)
            seconds = time.monotonic() - started
            self._report(f"{label}: {shown_figures(figures)} ({seconds:.0f} s)")
            if finished or exhausted:
                # The phase is over: a run that resumes here must not start another epoch of it.
                state.epoch = phase.epochs
            self._save()
            if checks is not None:
                checks.tidy(state)
            if self._run.interrupted():
                raise KeyboardInterrupt

    def _decide(self, phase: Phase, figures: Mapping[str, float], *, last: bool) -> bool:
        """Applies gates, the schedule of beta and the stop rule; returns True to end the phase.

        Args:
            phase: the phase of the finished epoch, which is counted already.
            figures: validation figures by name.
            last: True if no epoch of the phase follows in any case.
        """
        config, state, tasks = self._config, self._state, self._run.tasks
        if phase.name != "adversarial":
            gate = schedule.gate(config, phase.name, figures, tasks)
            if gate is None:
                return False
            state.gates[phase.name] = gate | {"epochs": state.epoch, "bound": phase.epochs}
            return config.train.early_gates and gate["status"] == "met"
        state.history.append(dict(figures))
        state.stop_rule = schedule.stop_rule(config, state.history, tasks)
        finished = last or bool(state.stop_rule["met"])
        if config.train.is_adversarial and not finished:
            state.beta = schedule.next_beta(
                config.loss,
                state.beta,
                state.epoch,
                phase.epochs,
                figures.get("privacy_balanced_accuracy"),
            )
        return finished

    def _end_between_epochs(self, phase: Phase, checks: Checks | None) -> None:
        """Ends a phase whose budget does not allow another epoch."""
        state, config = self._state, self._config
        if not state.epoch:
            # Removal that is fitted before the first step is released even if no step follows.
            phase.before_epoch(0)
        # If a check was due after the last epoch in any case, it has been made.
        due = schedule.check_due(config.game.check_epochs, state.epoch, last=False)
        if checks is not None and state.epoch and not due:
            figures = checks.figures(state.epoch, last=True)
            state.history[-1] |= figures
            state.stop_rule = schedule.stop_rule(config, state.history, self._run.tasks)
            checks.keep(state, last=True)
            self._report(f"after the last epoch: {shown_figures(figures)}")
        state.epoch = phase.epochs
        self._save()
        if checks is not None:
            checks.tidy(state)

    def _run_steps(self, phase: Phase) -> bool:
        """Runs the rest of an epoch; returns False if a privacy budget ended it early."""
        state, steps = self._state, phase.steps_per_epoch
        if state.step >= steps:
            return True
        label = phase_label(phase.name, state.epoch + 1, phase.epochs)
        with Progress(steps - state.step, f"{self._run.label}{label}") as progress:
            for inputs in prefetch(self._inputs(phase)):
                # An epoch's first step was covered before the epoch began.
                if state.step and not self._covered(phase):
                    return False
                values = self._step(phase, inputs)
                self._check_finite(phase, values)
                state.count_step(values)
                progress.update(note=shown_losses(values))
                if self._run.interrupted():
                    self._save()
                    raise KeyboardInterrupt
                if state.step % self._config.train.checkpoint_steps == 0 and state.step < steps:
                    self._save()
        return True

    def _covered(self, phase: Phase) -> bool:
        """Returns True if the budget allows the next step; otherwise records and reports it."""
        state = self._state
        left = (phase.epochs - state.epoch) * phase.steps_per_epoch - state.step
        if self._budget is None or self._budget.cover(phase.name, left):
            return True
        state.budget_ended[phase.name] = left
        self._report(
            f"{phase_name(phase.name)}: privacy budget exhausted {left} steps early; stopping the "
            "phase"
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
                f"gradients overflow at {self._place(phase)}; {self._checkpoints.last_good()}"
            ) from error

    def _inputs(self, phase: Phase) -> Iterator[Any]:
        epoch, first = self._state.epoch, self._state.step
        for step in range(first, phase.steps_per_epoch):
            yield phase.inputs(epoch, step)

    def _check_finite(self, phase: Phase, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(
                    f"{name} is {value} at {self._place(phase)}; {self._checkpoints.last_good()}: "
                    "start the run again with a smaller learning rate in a new run folder"
                )

    def _place(self, phase: Phase) -> str:
        state = self._state
        return f"step {state.step + 1} of epoch {state.epoch + 1} of phase {phase_name(phase.name)}"

    def _report(self, text: str) -> None:
        self._run.report(f"{self._run.label}{text}")

    def _book_time(self) -> None:
        state, now = self._state, time.monotonic()
        if state.phase != DONE:
            seconds = state.seconds.get(state.phase, 0.0)
            state.seconds[state.phase] = seconds + now - self._mark
        self._mark = now

    def _save(self) -> None:
        self._book_time()
        if self._budget is not None:
            self._state.ledger_counted = self._budget.counted()
        self._checkpoints.save(self._state.to_dict())
        if self._budget is not None:
            self._budget.settle()


class Interrupt:
    """Delays Ctrl-C and SIGTERM until a step is finished; a second one acts at once.

    A checkpoint then never holds half an update. While active, the first signal sets `requested`.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        # Python delivers signals to the main thread only.
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
            # It came after the last step; it must not be lost.
            raise KeyboardInterrupt

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
