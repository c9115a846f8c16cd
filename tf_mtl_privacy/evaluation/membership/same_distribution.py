"""Are members and non-members drawn alike? A reader who knows no model must not tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.membership.learned import learned_scores
from tf_mtl_privacy.evaluation.membership.roc import auc
from tf_mtl_privacy.evaluation.membership.selection import Split, sides
from tf_mtl_privacy.evaluation.membership.verdict import ALIKE, DIFFER, NOT_SHOWN

Array = np.ndarray[Any, Any]
_READERS = ("logistic", "trees")
# An AUC that is no more than this is too little to matter beside what attacks are said to find.
ALIKE_BELOW = 0.55


def same_distribution(rows: Array, split: Split, seed: int) -> dict[str, Any]:
    """What the better of two classifiers tells that know no model.

    What they tell apart is a difference between the two samples (another camera, other labels, more
    of them missing), which every attack would take for membership. The one with the larger AUC on
    one half is reported on the other.

    Args:
        rows: `[N, p]` float, see `known_without_model`.
        split: see `Split`.
        seed: of the classifiers.

    Returns:
        `auc`, `ci95`; `state`: "alike" where the interval ends below `alike_below` (an AUC below
        0.5 counts as 0.5 for that), also where it lies above 0.5: that little is too little to
        matter, and with many rows chance alone gets there; "differ" where it lies above 0.5 and
        ends higher; else "not_shown" (too few rows to tell); `ok`: whether it is not "differ".
    """
    found = [learned_scores(name, rows, split, seed) for name in _READERS]
    scores = max(found, key=lambda values: auc(*sides(values, split, split.choosing))[0])
    value, ci95 = auc(*sides(scores, split, ~split.choosing))
    # An AUC below a half is chance, and must not make up for an interval that is wide.
    most = max(value, 0.5) + ci95[1] - value
    state = ALIKE if most < ALIKE_BELOW else DIFFER if ci95[0] > 0.5 else NOT_SHOWN
    return {
        "auc": value,
        "ci95": ci95,
        "ok": state != DIFFER,
        "state": state,
        "alike_below": ALIKE_BELOW,
    }


def known_without_model(pictures: Array, labels: Mapping[str, Array], private: Array) -> Array:
    """`[N, p]` float32: all that attackers are given of a row beside what the model says of it.

    Args:
        pictures: `[N, q]` float, see `Outputs.pictures`.
        labels: task -> `[N]` int, -1 where unknown, which counts as a value of its own.
        private: `[N]` int, private labels; attackers of the discriminator only score who has one.
    """
    columns = [pictures, (private < 0)[:, None]]
    columns += [values[:, None] == np.unique(values) for values in labels.values()]
    return np.concatenate([part.astype(np.float32) for part in columns], axis=1)
