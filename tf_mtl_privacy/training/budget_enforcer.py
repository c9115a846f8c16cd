"""Keeps a run's ledger ahead of its private updates, and stops them when a budget is exhausted."""

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
    """A private optimizer as the ledger sees it."""

    @property
    def iterations(self) -> int:
        """Number of updates that the weights have."""
        ...


class BudgetEnforcer(contextlib.AbstractContextManager["BudgetEnforcer"]):
    """Reserves private updates a block ahead of the steps that make them.

    Args:
        folder: of the ledger and the checkpoints.
        plan: the run's private updates.
        optimizers: update name -> the optimizer that makes it, restored from the checkpoint.
        run_id: the run's name from the checkpoint; empty without a checkpoint.
        block: number of updates to reserve at once, > 0.
        void: why the guarantee of this process is void, or "".
        counted: the ledger's counts when the checkpoint was written, from the checkpoint.

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
        """Refuses an old copy: it may cover the weights and lack updates that a kill lost."""
        for name, before in counted.items():
            spent = self._ledger.spent(name)
            if spent < before:
                self.close()
                raise RunError(
                    f"{LEDGER_FILE}: counts {spent} updates of {name}, but had counted {before} "
                    "when the checkpoint was written; restore the newer ledger or start another run"
                )

    def counted(self) -> dict[str, int]:
        """Returns update name -> count of the ledger once it is settled, for a checkpoint."""
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
        """The ledger's counts, for reports."""
        return self._ledger.state

    def cover(self, phase: str, left: int) -> bool:
        """Counts the next step's private updates on disk before they run.

        Args:
            phase: a phase of training.
            left: number of its remaining steps, > 0.

        Returns:
            True if the step may run, False if a budget is exhausted.

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
        """Returns how many of `steps` more steps fit into every budget."""
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
        """Returns unused reservations, once a checkpoint holds the updates that ran.

        Raises:
            RunError: the ledger cannot be written, or more ran than was reserved.
        """
        for name, optimizer in self._optimizers.items():
            count = optimizer.iterations
            if self._ledger.covered(name) != count:
                self._ledger.settle(name, count)

    def close(self) -> None:
        """Closes the ledger; reservations that are not settled stay counted."""
        self._ledger.close()

    def __exit__(self, *_: object) -> None:
        self.close()
