"""Keeps a run's ledger ahead of its private updates, and stops them where a budget ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Protocol

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.privacy.accounting.calibration import affordable_together
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, Ledger, LedgerState
from tf_mtl_privacy.training.private_updates import PrivatePlan


class Counts(Protocol):
    """A private optimizer, as far as the ledger needs it."""

    @property
    def iterations(self) -> int:
        """Updates in the weights."""
        ...


class BudgetEnforcer(contextlib.AbstractContextManager["BudgetEnforcer"]):
    """Reserves private updates a block ahead of the steps that make them.

    Args:
        folder: where the ledger lies, beside the checkpoints.
        plan: the run's private updates.
        optimizers: update name -> the optimizer that makes it, restored from the checkpoint.
        run_id: the run's name as the checkpoint holds it; empty without a checkpoint.
        block: updates that are reserved at once, > 0.
        void: why this process guarantees nothing, or "".
        counted: what the ledger counted when the checkpoint was written, as the checkpoint has it.

    Raises:
        UsageError, RunError: the ledger is not this run's, or older than the checkpoint.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        plan: PrivatePlan,
        optimizers: Mapping[str, Counts],
        *,
        run_id: str,
        block: int,
        void: str,
        counted: Mapping[str, int] | None = None,
    ) -> None:
        self._plan, self._optimizers, self._block = plan, optimizers, block
        counts = {name: optimizers[name].iterations for name in plan.updates}
        self._ledger = Ledger(folder, plan.header, checkpoint=counts, run_id=run_id, void=void)
        self._refuse_older(counted or {})

    def _refuse_older(self, counted: Mapping[str, int]) -> None:
        """An old copy may cover the weights and still lack updates that were lost with a kill."""
        for name, before in counted.items():
            found = self._ledger.spent(name)
            if found < before:
                self.close()
                raise RunError(
                    f"{LEDGER_FILE}: counts {found} updates of {name}, but had counted {before} "
                    "when the checkpoint was written; restore the newer ledger or start another run"
                )

    def counted(self) -> dict[str, int]:
        """Update name -> updates that the ledger counts once it is settled, for a checkpoint."""
        return {
            name: self._ledger.spent(name) - self._ledger.covered(name) + optimizer.iterations
            for name, optimizer in self._optimizers.items()
        }

    @property
    def run_id(self) -> str:
        """The run's name, for its checkpoints."""
        return self._ledger.run_id

    @property
    def state(self) -> LedgerState:
        """What is counted, for reports."""
        return self._ledger.state

    def cover(self, phase: str, left: int) -> bool:
        """Makes sure that the next step's private updates are counted, on disk, before they run.

        Args:
            phase: a phase of training.
            left: its steps that are still to come, > 0.

        Returns:
            Whether the step may run: False where a budget is spent.

        Raises:
            RunError: the ledger cannot be written.
        """
        names = self._plan.of_phase(phase)
        ahead = {n: self._ledger.covered(n) - self._optimizers[n].iterations for n in names}
        if not names or min(ahead.values()) > 0:
            return True
        steps = self._affordable(names, min(self._block, left))
        for name in names if steps else ():
            if steps > ahead[name]:
                self._ledger.reserve(name, steps - ahead[name])
        return steps > 0

    def _affordable(self, names: tuple[str, ...], steps: int) -> int:
        """How many of `steps` more steps fit into every budget."""
        for budget in self._plan.budgets:
            inside = [name for name in names if name in budget.updates]
            if inside:
                steps = affordable_together(
                    self._ledger.state,
                    inside,
                    steps,
                    budget.target_epsilon,
                    self._plan.delta,
                    within=budget.updates,
                )
        return steps

    def settle(self) -> None:
        """Gives back what was reserved and has not run, once a checkpoint holds what has.

        Raises:
            RunError: the ledger cannot be written, or more ran than was reserved.
        """
        for name, optimizer in self._optimizers.items():
            count = optimizer.iterations
            if self._ledger.covered(name) != count:
                self._ledger.settle(name, count)

    def close(self) -> None:
        """Closes the ledger; what is reserved and not settled stays counted."""
        self._ledger.close()

    def __exit__(self, *_: object) -> None:
        self.close()
