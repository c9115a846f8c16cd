"""What a ledger adds up to, as plain values for a result file."""

from __future__ import annotations

import math
from typing import Any

from tf_mtl_privacy.privacy.accounting import epsilon
from tf_mtl_privacy.privacy.accounting_events import adjacency, paper_epsilon
from tf_mtl_privacy.privacy.ledger_state import LedgerState


def ledger_report(state: LedgerState, delta: float) -> dict[str, Any]:
    """Epsilon of the whole run and of its phases, for an image and for a person.

    Args:
        state: of an open ledger (`Ledger.state`) or of `read_ledger`.
        delta: for which every epsilon holds; see `check_delta`.

    Returns:
        JSON values; an epsilon that does not exist is None. Keys: delta, epsilon_pld, epsilon_rdp,
        adjacency, sampling, unit, steps, void (bool), void_reason, l2_norm_clip,
        max_images_per_person, person {epsilon_pld, epsilon_rdp}, phases {name: {epsilon_pld,
        epsilon_rdp, steps, noise_multiplier, sampling, sampling_probability, rows,
        overflow_probability, paper_rule_one_step}}.
    """
    phases = state.phases()
    images = state.header.max_images_per_person
    whole = list(phases.values())
    samplings = sorted({phase.mechanism.sampling for phase in whole})
    return {
        "delta": delta,
        **_both(whole, delta),
        "adjacency": adjacency(whole),
        "sampling": " and ".join(samplings),
        "unit": state.header.unit,
        "steps": sum(phase.steps for phase in whole),
        "void": bool(state.void),
        "void_reason": state.void or None,
        "l2_norm_clip": state.header.l2_norm_clip,
        "max_images_per_person": images,
        "person": _both(whole, delta, images),
        "phases": {
            name: {
                **_both([phase], delta),
                "steps": phase.steps,
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


def _both(phases: list[Any], delta: float, images: int = 1) -> dict[str, float | None]:
    return {
        f"epsilon_{name}": _finite(epsilon(phases, delta, name, images_per_person=images))
        for name in ("pld", "rdp")
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
