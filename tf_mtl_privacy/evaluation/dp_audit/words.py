"""The sentence that stands under an audit's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentence(found: Mapping[str, Any]) -> str:
    """One sentence on what the audit of a claim found.

    Args:
        found: what `dp_audit` returns, for a run with a claim.
    """
    claimed, lower, most = (found[k] for k in ("claimed", "epsilon_lower", "max_detectable"))
    single = found["single_step"]
    measured = (
        f"{found['canaries']:,} canaries in {found['updates']:,} of {found['updates_claimed']:,} "
        f"updates show epsilon >= {lower:.2f} at {found['confidence']:.0%} confidence"
    )
    if lower > claimed:
        return f"Contradicted: {measured}, above the claimed {claimed:.2f}."
    if single["contradicted"]:
        return (
            f"Contradicted: one update, {single['runs']:,} times with a canary and without, shows "
            f"epsilon >= {single['epsilon_lower']:.2f}, above the {single['epsilon_claimed']:.2f} "
            "that the claim allows it."
        )
    if found["verdict"] == "no_power":
        return (
            f"No power: without any noise the same canaries would show only {most:.2f}, so that "
            f"the claimed {claimed:.2f} could not have been contradicted."
        )
    return (
        f"Not contradicted: {measured}, below the claimed {claimed:.2f}; without noise they would "
        f"show {most:.2f}, with half the noise about {found['half_noise']:.2f}{_half(found)}."
    )


def _half(found: Mapping[str, Any]) -> str:
    """What could be told of a fault as large as half the noise."""
    if found["notices_half_noise"]:
        return ""
    return (
        ", so that half the noise would not have been noticed by them, nor, in most cases, by one "
        "update that is repeated"
    )
