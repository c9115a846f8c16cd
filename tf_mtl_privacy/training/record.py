"""Where a run stands: what is saved with every checkpoint besides the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

DONE = "done"


@dataclasses.dataclass
class RunRecord:
    """Counters and decisions of a run.

    Attributes:
        phase: name of the phase under way, or `DONE`.
        epoch: finished epochs of that phase.
        step: finished steps of its current epoch.
        beta: weight of the adversarial objective.
        sums: metric name -> sum over the current epoch's steps.
        steps: phase name -> updates taken.
        epochs: phase name -> finished epochs.
        seconds: phase name -> time spent, over all sessions, in seconds.
        gates: phase name -> `schedule.gate`'s result after its last epoch.
        history: validation metrics of each finished adversarial epoch.
        stop_rule: `schedule.stop_rule`'s last result.
        lines: lines of metrics.jsonl that belong to this state.
        ledger_id: the run's name in its ledger of private updates; empty without one.
        ledger_counted: update name -> private updates that the ledger counts at this moment.
        public: why the frozen backbone is public, said when the run began; empty without one.
        before_game: what a fresh attacker found on the pre-trained encoder without any removal.
        kept: the checked epoch whose networks are the best so far, see `Checks`; empty without one.
        budget_ended: phase name -> steps that it did not take because its privacy budget was spent.
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
        """Updates of all phases."""
        return sum(self.steps.values())

    def count_step(self, metrics: dict[str, float]) -> None:
        """Books one finished step."""
        self.step += 1
        self.steps[self.phase] = self.steps.get(self.phase, 0) + 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def finish_epoch(self) -> dict[str, float]:
        """Books a finished epoch and returns the means of its steps' metrics."""
        means = {name: total / max(self.step, 1) for name, total in self.sums.items()}
        self.epoch += 1
        self.epochs[self.phase] = self.epoch
        self.step, self.sums = 0, {}
        return means

    def enter(self, phase: str) -> None:
        """Goes on to the next phase."""
        self.phase, self.epoch, self.step, self.sums = phase, 0, 0, {}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)
