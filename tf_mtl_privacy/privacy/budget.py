"""How many more updates of a phase a budget allows, given what a ledger has counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tf_mtl_privacy.privacy.accounting import SEARCH, epsilon
from tf_mtl_privacy.privacy.accounting_events import POISSON
from tf_mtl_privacy.privacy.calibration import max_steps
from tf_mtl_privacy.privacy.ledger_state import LedgerState


def affordable(
    state: LedgerState,
    phase: str,
    count: int,
    target_epsilon: float,
    delta: float,
    *,
    whole_run: bool = False,
    plan: int = 0,
) -> int:
    """How many of `count` more updates of a phase stay within (target_epsilon, delta), by PLD.

    Args:
        state: what is counted already.
        phase: a phase of the ledger.
        count: updates wanted, >= 0.
        target_epsilon: the budget.
        delta: in [1e-10, 1).
        whole_run: the budget is that of all phases together, not of this one alone.
        plan: updates that the phase was planned for; makes the first answer fast.
    """
    mechanism = state.header.phases[phase]
    others = [part for name, part in state.phases().items() if name != phase and part.steps]
    before = others if whole_run else []
    if mechanism.sampling == POISSON:
        # The same question in every call of a phase, so that the accounting computes it once.
        most = max_steps(mechanism, target_epsilon, delta, before=before, guess=plan)
        return max(0, min(count, most - state.spent(phase)))

    def fits(more: int) -> bool:
        part = state.phases({phase: more})[phase]
        return epsilon([*before, part], delta, interval=SEARCH) <= target_epsilon

    return largest(fits, count)


def affordable_together(
    state: LedgerState,
    updates: Sequence[str],
    count: int,
    target_epsilon: float,
    delta: float,
    *,
    within: Collection[str] | None = None,
) -> int:
    """How many of `count` more steps, each one update of all `updates`, stay within a budget.

    Args:
        state: what is counted already.
        updates: phases of the ledger that each step takes one update of.
        count: steps wanted, >= 0.
        target_epsilon: the budget, by PLD.
        delta: in [1e-10, 1).
        within: the phases that share the budget; None for all of them.
    """

    def fits(more: int) -> bool:
        phases = state.phases(dict.fromkeys(updates, more))
        shared = [part for name, part in phases.items() if within is None or name in within]
        return epsilon(shared, delta, interval=SEARCH) <= target_epsilon

    return largest(fits, count)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in [0, most] that fits, where a smaller one always does; 0 if none."""
    if most == 0 or fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
