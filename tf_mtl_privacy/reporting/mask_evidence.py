"""Whether a mask or the adversarial game made the difference between runs, as far as results say.

Both are there in the same run. A discriminator that reads no more than chance before the joint
phase, after each of its epochs and at its end gives the encoder no direction: what attackers then
no longer find, the mask took (docs/removal.md). One that learned half-way and was fooled afterwards
gave it one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval

NO_MASK, BLIND, READS, UNKNOWN = "no mask", "blind", "reads", "unknown"


def mask_evidence(results: Mapping[str, Any]) -> str:
    """What one result says of it.

    Returns:
        `NO_MASK`; `BLIND`: there is a mask, and chance lies in or above the 95 % interval of what
        the discriminator reads: on validation rows at the end of its pre-training and after the
        joint epoch in which it read most, on test rows at the end; `READS`: chance lies below one
        of them; `UNKNOWN`: a figure is missing, as the course in results of earlier versions.

    The interval of the epoch in which it read most is as wide as its choice among so many makes it
    (Bonferroni). Of validation rows it is only known how many there are: classes are taken to be
    even, and where they are not the intervals are too narrow, which errs towards `READS`.
    """
    if (results.get("removal") or {}).get("mask") != "learned":
        return NO_MASK
    privacy = results.get("privacy") or {}
    gate = (results.get("gates") or {}).get("discriminator") or {}
    before = (gate.get("value") or {}).get("privacy_balanced_accuracy")
    course = (results.get("training") or {}).get("in_loop") or {}
    most, epochs = course.get("most_balanced_accuracy"), course.get("epochs")
    rows = ((results.get("counts") or {}).get("rows") or {}).get("validation")
    after = (privacy.get("discriminator") or {}).get("ci95")
    chance = privacy.get("chance")
    if before is None or most is None or after is None or chance is None:
        return UNKNOWN
    if not rows or not epochs:
        return UNKNOWN
    lows = [_low(before, rows, chance, 1), _low(most, rows, chance, epochs), after[0]]
    return BLIND if max(lows) <= chance else READS


def _low(balanced: float, rows: int, chance: float, among: int) -> float:
    """Lower end of the interval of a balanced accuracy that is the largest of so many."""
    classes = round(1 / chance)
    each = max(rows // classes, 1)
    confidence = 1 - 0.05 / among
    return balanced_accuracy_interval([balanced * each] * classes, [each] * classes, confidence)[0]


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
            f"{title} has a mask{runs}, and its discriminator reads no more than chance before "
            "the game, after each epoch of it and at its end: the mask, not the game, separates "
            "its figures from those of models without one."
        )
    why = (
        "and its discriminator reads more than chance"
        if READS in masked
        else "and what its discriminator reads before or along the game is not known"
    )
    return f"{title} has a mask{runs}, {why}: mask and game are not told apart here."
