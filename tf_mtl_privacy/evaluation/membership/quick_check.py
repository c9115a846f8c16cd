"""A quick look at membership between two epochs: what the stop rule's membership bound reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation.membership.attacks import (
    CHOSEN_BY,
    THRESHOLDS,
    attackable,
    halves,
    over_tasks,
    reported,
    strongest,
)
from tf_mtl_privacy.evaluation.membership.rows import FEWEST
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed

Array = np.ndarray[Any, Any]
MOST = 2_000


def success_rate(bundle: Bundle, dataset: Dataset, seed: int, most: int = MOST) -> float | None:
    """How many training rows B's answers give away, at a false alarm in 5 % of other rows.

    The paper's attack success rate, read as the TPR at 5 % FPR: 5 % is a guess. Training rows are
    told from as many validation rows by a threshold on what B says of them (loss, entropy, modified
    entropy, margin, each summed over tasks). Which of the four is chosen on one half of both, and
    reported is its rate on the other. Attackers that learn, or train models of their own, find
    more: those are the audit's. Business labels are read, no private one.

    Args:
        bundle: the networks, run in inference mode; a noisy encoder is read as often as a client
            may ask.
        dataset: its training and validation rows.
        seed: of the choice of rows and halves.
        most: most rows of each side.

    Returns:
        The rate in [0, 1]; None with fewer than 20 rows on a side, or too few business labels.
    """
    draw = np.random.default_rng(layer_seed(seed, "membership/check/rows"))
    count = min(most, len(dataset.rows["train"]), len(dataset.rows["validation"]))
    if count < FEWEST:
        return None
    rows = np.concatenate(
        [np.sort(draw.permutation(dataset.rows[name])[:count]) for name in ("train", "validation")]
    )
    logits = _answers(bundle, dataset, rows)
    known = dataset.labels_of(rows).business
    split = halves(count, count, layer_seed(seed, "membership/check/halves"))
    scores = attackable(
        {("business", name): over_tasks(s, logits, known) for name, s in THRESHOLDS.items()}, split
    )
    if not scores:
        return None
    best = reported(scores[strongest(scores, split)], split)
    return float(best["tpr_at_fpr"][f"{CHOSEN_BY:g}"]["value"])


def _answers(bundle: Bundle, dataset: Dataset, rows: Array) -> dict[str, Array]:
    """Task -> `[N, K]` float32 logits of rows, in their order."""
    view, answer = most_draws(bundle.encoder)[1], targets.logits(bundle.business)
    images = dataset.store.images(rows)
    found = targets.seen_by(lambda seen: answer(view(seen)), images)(images)
    sizes = [output.shape[-1] for output in bundle.business.output.values()]
    parts = np.split(found, np.cumsum(sizes)[:-1], axis=1)
    return dict(zip(bundle.business.output, parts, strict=True))
