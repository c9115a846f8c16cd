"""Whether attackers could have found anything: without that, finding nothing says nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.probes.data import ProbeData

PIXELS_BAR, REMOVAL_OFF_BAR, PLANTED_BAR = 0.85, 0.75, 0.75
PLANTED_SHARE = 0.1
_NAMES = {
    "pixels": ("pixels", PIXELS_BAR),
    "planted": ("a planted leak", PLANTED_BAR),
    "removal_off": ("the features of the run with removal off", REMOVAL_OFF_BAR),
}


def planted(data: ProbeData, seed: int, most_rows: int) -> ProbeData:
    """The same rows with a leak of our own, to be found by attackers that have power.

    Labels are dealt out anew at random, so that what was hidden in the rows does not help. Each
    class has a pattern of random signs; a tenth of the pattern, in units of each number's own
    deviation over training rows, is added to its rows.

    Args:
        data: the target's rows.
        seed: of labels and patterns.
        most_rows: training rows that are kept.
    """
    rng = np.random.default_rng(seed)
    train = data.train[:most_rows]
    size = PLANTED_SHARE * train.std(axis=0)
    signs = rng.choice(np.array([-1, 1], np.float32), (data.classes, *size.shape))
    changes = {}
    for part, rows in (("train", train), ("validation", data.validation), ("test", data.test)):
        labels = rng.permutation(np.arange(len(rows), dtype=np.int32) % data.classes)
        changes[part] = (rows + size * signs[labels]).astype(np.float32)
        changes[f"{part}_labels"] = labels
    return dataclasses.replace(data, **changes)


def power(found: dict[str, float | None]) -> dict[str, Any]:
    """Whether the attackers are too weak for any claim.

    Args:
        found: balanced accuracy of the strongest on 'pixels', 'planted' and 'removal_off'; None
            where that was not measured.

    Returns:
        `underpowered`; `underpowered_reasons`, a text for each bar that was missed; `not_checked`,
        the names without a figure.
    """
    reasons, missing = [], []
    for name, (words, bar) in _NAMES.items():
        value = found.get(name)
        if value is None:
            missing.append(name)
        elif value < bar:
            reasons.append(
                f"the strongest attacker reads {100 * value:.1f} % from {words}, where "
                f"{100 * bar:g} % is asked for"
            )
    return {
        "underpowered": bool(reasons),
        "underpowered_reasons": reasons,
        "not_checked": missing,
    }
