"""What a run claims about one example's privacy, taken from its results. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.privacy.accounting_events import Mechanism, Phase

_NOTHING_RELEASED = "no released weight has an epsilon"


@dataclasses.dataclass(frozen=True)
class Claim:
    """An epsilon, and the updates that it is claimed for.

    Attributes:
        phases: the private updates that ran.
        l2_norm_clip: C of all of them, > 0.
        delta: for which epsilon is claimed; None where nothing is.
        epsilon: what is claimed, > 0; None where nothing is.
        clipping: the clipping backend of the run.
        reason: why nothing is claimed; empty where something is.
    """

    phases: tuple[Phase, ...]
    l2_norm_clip: float
    delta: float | None
    epsilon: float | None
    clipping: str = "ghost"
    reason: str = ""


def claim_of(dp: Mapping[str, Any], clipping: str = "ghost") -> Claim:
    """The claim of a run.

    A conditional epsilon (`dp.conditional`) is none: it holds for no weight that is released.

    Args:
        dp: the `dp` part of results.json.
        clipping: the run's `--clipping`.

    Returns:
        The largest epsilon of a released part, with its updates; `epsilon` None and a reason where
        every part's is null.
    """
    claimed = [value for value in dp["released"].values() if value is not None]
    phases = tuple(_phase(values) for values in dp["phases"].values())
    ran = tuple(phase for phase in phases if phase.steps)
    reason = dp.get("reason") or _NOTHING_RELEASED
    if not claimed or not ran:
        return Claim(ran, dp.get("l2_norm_clip") or 0.0, dp["delta"], None, clipping, reason)
    return Claim(ran, dp["l2_norm_clip"], dp["delta"], max(claimed), clipping)


def no_claim(reason: str) -> Claim:
    """The claim of a run that makes none.

    Args:
        reason: why; completes "No claim to test: ...".
    """
    return Claim((), 0.0, None, None, reason=reason)


def _phase(values: Mapping[str, Any]) -> Phase:
    mechanism = Mechanism(
        values["noise_multiplier"],
        values["sampling_probability"],
        values["sampling"],
        rows=values["rows"],
    )
    return Phase(mechanism, values["steps"])
