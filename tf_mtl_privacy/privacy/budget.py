"""How many more updates of a phase a budget allows, given what a ledger has counted."""

from __future__ import annotations

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

    if count == 0 or fits(count):
        return count
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
