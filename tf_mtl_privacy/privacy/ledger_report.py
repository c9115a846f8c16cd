"""What a ledger adds up to, as plain values for a result file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, adjacency, paper_epsilon
from tf_mtl_privacy.privacy.ledger import LedgerState


def ledger_report(
    state: LedgerState,
    delta: float,
    planned: Mapping[str, int] | None = None,
    ended_early: Collection[str] = (),
) -> dict[str, Any]:
    """Adds up the epsilon of the whole run and of its phases, for an image and for a person.

    Where a phase ended early because of what was measured on the trained weights, the number of
    updates that ran depends on the data. Then what counts is the plan, which was fixed before:
    docs/accounting.md#phases-that-end-early proves it. After kills a phase may exceed its plan, by
    a block each (`LedgerState.kill_allowance`), and which phase does depends on where the others
    ended: then every phase counts with its plan and all of these blocks.

    Args:
        state: of an open ledger (`Ledger.state`) or of `read_ledger`.
        delta: for which every epsilon holds; see `check_delta`.
        planned: phase name -> updates that it was to take; needed for phases that ended early.
        ended_early: the phases that did.

    Returns:
        JSON values; an epsilon that does not exist is None, and in a void run all are. Keys: delta,
        epsilon_pld, epsilon_rdp, as_run {epsilon_pld, epsilon_rdp}, adjacency, sampling, unit,
        noise (`noise_record.NOISE`, or None), steps, void (bool), void_reason, l2_norm_clip,
        max_images_per_person, person {epsilon_pld, epsilon_rdp}, phases {name: {epsilon_pld,
        epsilon_rdp, steps, noise_multiplier, sampling, sampling_probability, rows,
        overflow_probability, paper_rule_one_step}}.
    """
    ran, images = state.phases(), state.header.max_images_per_person
    phases = counted_phases(state, planned, ended_early)
    whole = list(phases.values())

    def both(chosen: list[MechanismRun], images: int = 1) -> dict[str, float | None]:
        if state.void:
            return {"epsilon_pld": None, "epsilon_rdp": None}
        return {
            f"epsilon_{name}": _finite(epsilon(chosen, delta, name, images_per_person=images))
            for name in ("pld", "rdp")
        }

    samplings = sorted({phase.mechanism.sampling for phase in whole})
    return {
        "delta": delta,
        **both(whole),
        "as_run": both(list(ran.values())),
        "adjacency": adjacency(whole),
        "sampling": " and ".join(samplings),
        "unit": state.header.unit,
        "noise": state.noise,
        "steps": sum(phase.steps for phase in ran.values()),
        "void": bool(state.void),
        "void_reason": state.void or None,
        "l2_norm_clip": state.header.l2_norm_clip,
        "max_images_per_person": images,
        "person": both(whole, images),
        "phases": {
            name: {
                **both([phase]),
                "steps": ran[name].steps,
                "noise_multiplier": phase.mechanism.noise_multiplier,
                "sampling": phase.mechanism.sampling,
                "sampling_probability": phase.mechanism.sampling_probability,
                "rows": phase.mechanism.rows,
                "overflow_probability": phase.mechanism.overflow_probability,
                "paper_rule_one_step": _finite(
                    paper_epsilon(phase.mechanism.noise_multiplier, delta)
                ),
            }
            for name, phase in phases.items()
        },
    }


def counted_phases(
    state: LedgerState,
    planned: Mapping[str, int] | None = None,
    ended_early: Collection[str] = (),
) -> dict[str, MechanismRun]:
    """Returns phase name -> the updates that the stated epsilon is of; see `ledger_report`."""
    planned, ran = planned or {}, state.phases()
    allowance = state.kill_allowance if ended_early else 0
    names = planned if allowance else ended_early
    return state.phases(
        {name: max(0, planned[name] + allowance - ran[name].steps) for name in names}
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
