"""Checkpoints: the complete state from which a killed run resumes with the same results."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.errors import RunError

DONE = "done"


@dataclasses.dataclass
class TrainingState:
    """Resumable training state other than model weights.

    Attributes:
        phase: name of the phase under way, or `DONE`.
        epoch: finished epochs of that phase.
        step: finished steps of its current epoch.
        beta: weight of the adversarial objective.
        sums: metric name -> sum over the current epoch's steps.
        steps: phase name -> updates taken.
        epochs: phase name -> finished epochs.
        seconds: phase name -> time spent, over all processes, in seconds.
        gates: phase name -> `schedule.gate`'s result after its last epoch.
        history: validation metrics of each finished adversarial epoch.
        stop_rule: `schedule.stop_rule`'s last result.
        lines: number of lines of metrics.jsonl that belong to this state.
        ledger_id: the run's name in its ledger of private updates; empty without one.
        ledger_counted: update name -> private updates that the ledger counted when this was saved.
        public: why the frozen backbone is public, as stated when the run began; empty without one.
        before_game: figures of a fresh attacker on the pre-trained encoder, with the mask off.
        kept: the best checked epoch so far, see `Checks`; empty without one.
        budget_ended: phase name -> steps not taken because the privacy budget was exhausted.
    """

    phase: str
    epoch: int = 0
    step: int = 0
    beta: float = 0.0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    steps: dict[str, int] = dataclasses.field(default_factory=dict)
    epochs: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    gates: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    stop_rule: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: int = 0
    ledger_id: str = ""
    public: str = ""
    ledger_counted: dict[str, int] = dataclasses.field(default_factory=dict)
    budget_ended: dict[str, int] = dataclasses.field(default_factory=dict)
    before_game: dict[str, float] = dataclasses.field(default_factory=dict)
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """Number of updates in all phases."""
        return sum(self.steps.values())

    def count_step(self, metrics: dict[str, float]) -> None:
        """Counts one finished step."""
        self.step += 1
        self.steps[self.phase] = self.steps.get(self.phase, 0) + 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def finish_epoch(self) -> dict[str, float]:
        """Counts a finished epoch and returns the means of its steps' metrics."""
        means = {name: total / max(self.step, 1) for name, total in self.sums.items()}
        self.epoch += 1
        self.epochs[self.phase] = self.epoch
        self.step, self.sums = 0, {}
        return means

    def enter(self, phase: str) -> None:
        """Starts the phase `phase`."""
        self.phase, self.epoch, self.step, self.sums = phase, 0, 0, {}

    def ended_early(self, max_epochs: Mapping[str, int]) -> list[str]:
        """Returns the phases that a gate or the stop rule ended before `max_epochs`."""
        return [
            name
            for name, count in max_epochs.items()
            if self.epochs.get(name, 0) < count and name not in self.budget_ended
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields, ready for JSON."""
        return dataclasses.asdict(self)


class Checkpoints:
    """Saves and restores named lists of variables together with a JSON record, atomically.

    Variables are passed as flat lists of `tf.Variable`. Given a Keras 3 model instead,
    `tf.train.Checkpoint` would not find the slots that a tf-keras optimizer keeps for its
    variables, and they would silently start from zero after a restore.

    The record (schedule, counters, history) is a string variable of the same checkpoint, so that
    weights and counters always belong to the same step.

    Args:
        folder: the checkpoints' folder; made if missing.
        groups: name -> the variables of one model or optimizer, in a fixed order.
    """

    def __init__(self, folder: Path, groups: Mapping[str, Sequence[Any]]) -> None:
        self._record = tf.Variable("{}", dtype=tf.string, trainable=False)
        raw = {name: [_raw(variable) for variable in group] for name, group in groups.items()}
        self._shapes = json.dumps({n: [str(v.shape) for v in group] for n, group in raw.items()})
        self._layout = tf.Variable(self._shapes, dtype=tf.string, trainable=False)
        self._floats = [v for group in raw.values() for v in group if v.dtype.is_floating]
        self._checkpoint = tf.train.Checkpoint(record=self._record, layout=self._layout, **raw)
        self._folder = Path(folder)
        self._manager = self._make_manager()

    def _make_manager(self) -> tf.train.CheckpointManager:
        try:
            return tf.train.CheckpointManager(self._checkpoint, str(self._folder), max_to_keep=2)
        except (ValueError, tf.errors.OpError, OSError):
            # A power failure truncated the index of checkpoints; they are found without it.
            (self._folder / "checkpoint").unlink(missing_ok=True)
            return tf.train.CheckpointManager(self._checkpoint, str(self._folder), max_to_keep=2)

    def save(self, record: Mapping[str, Any]) -> None:
        """Writes a new checkpoint and then deletes the oldest one.

        Raises:
            RunError: it cannot be written, or a variable or its square is not finite; the earlier
                checkpoint stays.
        """
        if not bool(tf.math.is_finite(tf.linalg.global_norm(self._floats))):
            raise RunError(
                f"the networks' weights are no longer finite numbers; {self.last_good()}: start "
                "the run again with a smaller learning rate in a new run folder"
            )
        self._record.assign(json.dumps(record))
        try:
            _sync(Path(self._manager.save()))
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"cannot write a checkpoint to {self._manager.directory}: {reason}"
            ) from error

    def last_good(self) -> str:
        """States if there is a checkpoint to resume from after a failure."""
        if self._newest_first():
            return "the last good checkpoint is kept"
        return "no checkpoint was written yet"

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest complete checkpoint and returns its record; None without one.

        Raises:
            RunError: all checkpoints are damaged or belong to other networks.
        """
        error: RunError | None = None
        for path in self._newest_first():
            try:
                return self._restore(str(path))
            except RunError as damage:
                error = error or damage
        if error is not None:
            raise error
        return None

    def _newest_first(self) -> list[Path]:
        paths = [path.with_suffix("") for path in self._folder.glob("ckpt-*.index")]
        return sorted(paths, key=lambda path: int(path.name.removeprefix("ckpt-")), reverse=True)

    def _restore(self, path: str) -> dict[str, Any]:
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError, OSError) as error:
            raise RunError(
                f"checkpoint {path} does not fit this run or is damaged; move its run folder away "
                "and start again"
            ) from error
        if self._layout.numpy().decode() != self._shapes:
            raise RunError(f"checkpoint {path} belongs to networks of other shapes")
        record: dict[str, Any] = json.loads(self._record.numpy().decode())
        return record


def _raw(variable: Any) -> tf.Variable:
    """Returns the `tf.Variable` behind a Keras 3 variable, or the variable itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _sync(path: Path) -> None:
    """Flushes a checkpoint to disk before anything relies on it."""
    for file in [*path.parent.glob(f"{path.name}.*"), path.parent / "checkpoint", path.parent]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
