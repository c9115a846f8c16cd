"""Are members and non-members drawn alike? A reader of pictures alone must not tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.membership.learned import learned_scores
from tf_mtl_privacy.evaluation.membership.roc import auc
from tf_mtl_privacy.evaluation.membership.selection import Split, strongest

Array = np.ndarray[Any, Any]
_READERS = ("logistic", "trees")


def same_distribution(pictures: Array, split: Split, seed: int) -> dict[str, Any]:
    """`{"auc", "ci95", "ok"}` of the better of two classifiers that know no model.

    What they tell apart is a difference between the two samples (another camera, another stream),
    which every attack would take for membership. The better one is chosen on one half and reported
    on the other, as attacks are.

    Args:
        pictures: `[N, p]` float, see `Outputs.pictures`.
        split: see `Split`.
        seed: of the classifiers.

    Returns:
        `ok` is False where the interval lies above 0.5.
    """
    found = {("pictures", name): learned_scores(name, pictures, split, seed) for name in _READERS}
    scores = found[strongest(found, split)]
    report = ~split.choosing
    value, ci95 = auc(scores[report & split.member], scores[report & ~split.member])
    return {"auc": value, "ci95": ci95, "ok": ci95[0] <= 0.5}
