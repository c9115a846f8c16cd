"""Whether a mask or the adversarial game made the difference between runs, as far as results say.

Both are there in the same run. A discriminator that reads no more than a guess, before the joint
phase and at its end, gives the encoder no direction: what attackers then no longer find, the mask
took (docs/removal.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.intervals import wilson_interval

NO_MASK, BLIND, READS, UNKNOWN = "no mask", "blind", "reads", "unknown"


def mask_evidence(results: Mapping[str, Any]) -> str:
    """What one result says of it.

    Returns:
        `NO_MASK`; `BLIND`: there is a mask, and chance lies in or above the 95 % interval of what
        the discriminator reads, on validation rows at the end of its pre-training and on test rows
        at the end; `READS`: it lies below one of the two; `UNKNOWN`: a figure is missing.
    """
    if (results.get("removal") or {}).get("mask") != "learned":
        return NO_MASK
    privacy = results.get("privacy") or {}
    gate = (results.get("gates") or {}).get("discriminator") or {}
    before = (gate.get("value") or {}).get("privacy_balanced_accuracy")
    rows = ((results.get("counts") or {}).get("rows") or {}).get("validation")
    after = (privacy.get("discriminator") or {}).get("ci95")
    chance = privacy.get("chance")
    if before is None or not rows or after is None or chance is None:
        return UNKNOWN
    lows = [wilson_interval(round(before * rows), rows)[0], after[0]]
    return BLIND if max(lows) <= chance else READS


def mask_line(title: str, evidence: Sequence[str]) -> str:
    """A model's line below a table; empty where none of its runs has a mask.

    Args:
        title: of the model.
        evidence: of each of its runs.
    """
    masked = [found for found in evidence if found != NO_MASK]
    if not masked:
        return ""
    runs = "" if len(masked) == len(evidence) else " (in some of its runs)"
    if set(masked) == {BLIND}:
        return (
            f"{title} has a mask{runs}, and its discriminator reads no more than a guess before "
            "and after the game: the mask, not the game, separates its figures from those of "
            "models without one."
        )
    why = (
        "and its discriminator reads more than a guess"
        if READS in masked
        else "and what its discriminator reads before the game is not known"
    )
    return f"{title} has a mask{runs}, {why}: mask and game are not told apart here."
