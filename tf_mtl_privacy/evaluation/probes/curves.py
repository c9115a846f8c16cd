"""Learning curves of attackers: what they would read with more rows or more updates.

A reading bounds what other attackers find only where more rows and more updates no longer help. A
curve says so as far as it goes: it cannot see a rise that begins beyond its last point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.bounds import paired_gain, unpack

Array = np.ndarray[Any, Any]
FLAT, RISING, NOT_MEASURED = "flat", "still rising", "not measured"
SHARES = (4, 2)


def learning_curve(
    readings: Sequence[Reading], sizes: Sequence[int], labels: Array, unit: str = "rows"
) -> dict[str, Any]:
    """Returns `curve`, `trend`, `trend_words` of one attacker at three or more sizes.

    Rule: a curve is still rising where the last doubling gains more than its uncertainty, that is
    where the 95 % interval of the gain in balanced accuracy on the same test rows (`paired_gain`)
    lies above 0; and where the same holds from the first point to the last while the last doubling
    gained at least a quarter of what the one before did, so that the curve has not levelled off.

    Args:
        readings: by size, smallest first; each with `right`.
        sizes: number of rows or updates of each.
        labels: `[N]` int classes of the test rows.
        unit: `rows` or `updates`.
    """
    rights = [unpack(reading.right, len(labels)) for reading in readings]
    curve = []
    for reading, size in zip(readings, sizes, strict=True):
        figures = {name: reading.test[name] for name in ("balanced_accuracy", "balanced_ci95")}
        starts = {"starts": list(reading.starts)} if len(reading.starts) > 1 else {}
        curve.append({unit: int(size), **figures, **starts})
    gain, ends = paired_gain(rights[-2], rights[-1], labels)
    whole, whole_ends = paired_gain(rights[0], rights[-1], labels)
    rising = ends[0] > 0 or (whole_ends[0] > 0 and gain >= (whole - gain) / 4)
    low, high = (100 * end for end in ends)
    words = (
        f"{RISING if rising else FLAT}: from {sizes[-2]:,} to {sizes[-1]:,} {unit} the balanced "
        f"accuracy changes by {100 * gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    if rising:
        words += f"; attackers with more {unit} would read more"
    return {"curve": curve, "trend": RISING if rising else FLAT, "trend_words": words}


def no_curve(reason: str) -> dict[str, Any]:
    """Returns the fields of a target without a learning curve."""
    return {"curve": [], "trend": NOT_MEASURED, "trend_words": f"{NOT_MEASURED}: {reason}"}


def no_patience(reason: str) -> dict[str, Any]:
    """Returns the fields of a target whose attackers were not trained for longer."""
    patience = {"checked": False, "flat": None, "reason": reason}
    return {"updates_curve": [], "patience": patience}


def patience(found: dict[str, Any], starts: int) -> dict[str, Any]:
    """Returns `updates_curve` and `patience` of a learning curve over updates."""
    flat = found["trend"] == FLAT
    reason = f"{found['trend_words']}, best of {starts} random starts by validation rows"
    return {
        "updates_curve": found["curve"],
        "patience": {"checked": True, "flat": flat, "reason": reason},
    }
