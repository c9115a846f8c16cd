"""Quick attacks between epochs, which the stop rule and checkpoint selection read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation.membership.attacks import (
    CHOSEN_BY,
    THRESHOLDS,
    attackable,
    halves,
    over_tasks,
    reported,
    strongest_attack,
)
from tf_mtl_privacy.evaluation.membership.outputs import MIN_CANDIDATES
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import attack, strongest
from tf_mtl_privacy.evaluation.probes.budget import FAST, ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import AttackRows, own_rows, unseen_rows
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.probe_cache import keep_check, weights_digest
from tf_mtl_privacy.evaluation.probes.summary import OWN, UNSEEN
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.types import Array

# (networks, data) -> figures for the stop rule.
Check = Callable[[Bundle, Dataset], dict[str, float]]
# The first reads a small detail anywhere, the second identity from few rows.
_ATTACKERS = ("softmax_pool_cnn_whitened", "logistic_whitened")
CHECK = dataclasses.replace(FAST, name="check", rows=8_000, steps=20, width=16, features=_ATTACKERS)
_HELD_OUT_SHARE = 8
MAX_MEMBERS = 2_000


def fresh_check(config: Config, budget: ProbeBudget = CHECK, folder: Path | None = None) -> Check:
    """Builds the check that the stop rule and checkpoint selection read.

    `fresh_probe_balanced_accuracy` and `fresh_probe_upper`, the upper 95 % confidence bound,
    come from attackers that each call trains anew on the current features: on rows that the
    encoder never saw for synthetic faces, else on its training rows. The strongest is chosen on
    held-out rows and scored on the run's validation rows. Without private labels neither is there.

    `membership_success_rate` is `success_rate`. It reads training rows without noise, so it is left
    out with `--dp_scope=all`, where everything that selects a released weight must be noised.

    Args:
        config: the run's configuration.
        budget: the attackers' budget.
        folder: the folder `audit` of the run. Readings are saved in its `checks.json`
            (`probe_cache.keep_check`), so that `probe_cache.strongest_kept` finds those of the
            final weights. None saves nothing.
    """
    cached: list[AttackRows | None] = []

    def check(bundle: Bundle, dataset: Dataset) -> dict[str, float]:
        if not cached:
            cached.append(_rows(config, dataset, budget))
        figures = {} if cached[0] is None else read_features(bundle, dataset, cached[0])
        if config.privacy.dp_scope != "all":
            rate = success_rate(bundle, dataset, config.train.seed)
            figures |= {} if rate is None else {"membership_success_rate": rate}
        return figures

    def read_features(bundle: Bundle, dataset: Dataset, rows: AttackRows) -> dict[str, float]:
        view, seed = most_draws(bundle.encoder)[1], layer_seed(config.train.seed, "probe/check")
        data = targets.picture_rows(view, rows, len(dataset.private_classes))
        readings = attack(data, budget.features, attackers(), budget, seed)
        if folder is not None:
            place = f"features/{_trained_on(config, dataset)}/"
            named = {f"{place}/{reading.name}/0": reading for reading in readings}
            keep_check(folder, weights_digest({"": bundle}), named)
        best = strongest(readings).test
        return {
            "fresh_probe_balanced_accuracy": float(best["balanced_accuracy"]),
            "fresh_probe_upper": float(best["balanced_ci95"][1]),
        }

    return check


def success_rate(
    bundle: Bundle, dataset: Dataset, seed: int, max_members: int = MAX_MEMBERS
) -> float | None:
    """Returns the TPR at 5 % FPR of the strongest threshold attack on training rows.

    This is our reading of the paper's attack success rate, whose FPR is not given. Validation rows
    are the non-members. The attack, a threshold on the loss, entropy, modified entropy or margin
    summed over tasks, is chosen on one half of the rows and reported on the other. The audit's
    learned attacks and shadow models find more. It reads business labels and no private label.

    Args:
        bundle: the networks, in inference mode; a noisy encoder is averaged over as many draws as a
            client may request.
        dataset: training and validation rows.
        seed: of the choice of rows and halves.
        max_members: largest number of rows of each side.

    Returns:
        The rate in [0, 1]; None for fewer than 20 rows of a side, or too few business labels.
    """
    draw = np.random.default_rng(layer_seed(seed, "membership/check/rows"))
    count = min(max_members, len(dataset.rows["train"]), len(dataset.rows["validation"]))
    if count < MIN_CANDIDATES:
        return None
    rows = np.concatenate(
        [np.sort(draw.permutation(dataset.rows[name])[:count]) for name in ("train", "validation")]
    )
    logits = _logits(bundle, dataset, rows)
    known = dataset.labels_of(rows).business
    split = halves(count, count, layer_seed(seed, "membership/check/halves"))
    scores = attackable(
        {("business", name): over_tasks(s, logits, known) for name, s in THRESHOLDS.items()}, split
    )
    if not scores:
        return None
    best = reported(scores[strongest_attack(scores, split)], split)
    return best["tpr_at_fpr"][f"{CHOSEN_BY:g}"]["value"]


def _trained_on(config: Config, dataset: Dataset) -> str:
    """Returns the kind of rows on which attackers are trained: unseen ones for synthetic faces."""
    return UNSEEN if config.data.dataset == dataset.name == "synthetic_faces" else OWN


def _rows(config: Config, dataset: Dataset, budget: ProbeBudget) -> AttackRows | None:
    validation, seed = dataset.rows["validation"], layer_seed(config.train.seed, "probe/check/rows")
    if not (dataset.labels_of(validation).private >= 0).any():
        return None
    if _trained_on(config, dataset) == UNSEEN:
        rows = unseen_rows(dataset, config.data, validation, budget, seed)
        return None if isinstance(rows, str) else rows
    train = np.random.default_rng(seed).permutation(dataset.rows["train"])
    count = max(len(train) // _HELD_OUT_SHARE, 1)
    split = {"train": np.sort(train[count:]), "validation": np.sort(train[:count])}
    rows = own_rows(
        dataclasses.replace(dataset, rows=split), validation, budget, layer_seed(seed, "own")
    )
    return None if isinstance(rows, str) else rows


def _logits(bundle: Bundle, dataset: Dataset, rows: Array) -> dict[str, Array]:
    """Returns task -> `[N, K]` float32 logits of rows, in their order."""
    view, answer = most_draws(bundle.encoder)[1], targets.logits(bundle.business)
    images = dataset.store.images(rows)
    joined = targets.seen_by(lambda pictures: answer(view(pictures)), images)(images)
    sizes = [output.shape[-1] for output in bundle.business.output.values()]
    parts = np.split(joined, np.cumsum(sizes)[:-1], axis=1)
    return dict(zip(bundle.business.output, parts, strict=True))
