"""Learning curves of attackers: what they would read with more rows or more updates.

A reading bounds what other attackers find only where more rows and more updates no longer help. A
curve says so as far as it goes: it cannot see a rise that begins beyond its last point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.bounds import (
    FLAT,
    NOT_MEASURED,
    RISING,
    UNCLEAR,
    paired_gain,
    unpack,
)

Array = np.ndarray[Any, Any]
SHARES = (4, 2)
# A curve is flat only where the last doubling can be told to gain less than this.
MOST_GAIN = 0.05


def learning_curve(
    readings: Sequence[Reading], sizes: Sequence[int], labels: Array, unit: str = "rows"
) -> dict[str, Any]:
    """Returns `curve`, `trend`, `trend_words` of one attacker at three or more sizes.

    Rule: a curve is still rising where the last doubling gains more than its uncertainty, that is
    where the 95 % interval of the gain in balanced accuracy on the same test rows (`paired_gain`)
    lies above 0; and where the same holds from the first point to the last while the last doubling
    gained at least a quarter of what the one before did, so that the curve has not levelled off.

    That no gain is shown does not say that there is none: on few test rows the interval is wide
    (on 100 of them a gain of ten points is missed in one of six cases). So a curve that is not
    rising is flat only where the interval of the last gain ends at or below `MOST_GAIN`; otherwise
    it is not clear, and no claim follows from it.

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
    trend = RISING if rising else FLAT if ends[1] <= MOST_GAIN else UNCLEAR
    low, high = (100 * end for end in ends)
    words = (
        f"{trend}: from {sizes[-2]:,} to {sizes[-1]:,} {unit} the balanced "
        f"accuracy changes by {100 * gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    if rising:
        words += f"; attackers with more {unit} would read more"
    if trend == UNCLEAR:
        words += f"; {len(labels):,} test rows are too few to tell"
    return {"curve": curve, "trend": trend, "trend_words": words}


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
