"""Membership inference against a saved run: its rows, its networks, LiRA on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.attacks import attackable, count_attacks, scaled_logits
from tf_mtl_privacy.evaluation.membership.budget import Effort
from tf_mtl_privacy.evaluation.membership.lira import digest, head_scores, train_shadows
from tf_mtl_privacy.evaluation.membership.outputs import BATCH as _BATCH
from tf_mtl_privacy.evaluation.membership.outputs import Outputs, of_bundles, read_outputs
from tf_mtl_privacy.evaluation.membership.rows import Candidates, joined, members, non_members
from tf_mtl_privacy.evaluation.membership.run import Membership, Scores, membership, summary
from tf_mtl_privacy.evaluation.probes.saved import networks, weights_digest
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
# (number of the shadow, the rows that it is trained on, folder to work in) -> its networks.
Trainer = Callable[[int, Candidates, Path], Mapping[str, Bundle]]
_FULL = {"lira_offline": lira.offline, "lira_online": lira.online}


@dataclasses.dataclass(frozen=True)
class Shadows:
    """Shadow models of the whole run.

    Attributes:
        count: how many, even.
        folder: where they and what is known of them are kept.
        train: trains one.
    """

    count: int
    folder: Path
    train: Trainer


def attack_run(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    effort: Effort,
    shadows: Shadows | None = None,
) -> Membership:
    """Attacks a run with its own training rows as members.

    Args:
        run: the run.
        dataset: the data that it was trained on, with the training rows that were really used.
        data: what it was opened with.
        effort: how hard attackers try.
        shadows: models of the same kind on other rows, for the full LiRA; None leaves it out.

    Raises:
        UsageError: too few rows.
        RunError: shadows of another run, or a file that cannot be written.
    """
    seed, bundles = run.config.train.seed, networks(run)
    most = effort.rows if shadows is None else max(effort.rows, len(dataset.rows["train"]))
    inside = members(dataset, most, layer_seed(seed, "membership/members"))
    outside = non_members(dataset, data, most, layer_seed(seed, "membership/non_members"))
    counts = len(inside.numbers), len(outside.numbers)
    pool = min(effort.head_rows, *counts)
    batches = sum(-(-count // _BATCH) for count in (*counts, *[2 * pool] * len(bundles)))
    attacks = count_attacks(effort.learners) + 1 + effort.heads * len(bundles)
    with Progress(batches + attacks, "membership attacks", "steps") as bar:

        def more(outputs: Outputs) -> Scores:
            found: dict[tuple[str, str], Array] = {}
            for bundle in bundles.values():
                heads = _heads(bundle, (inside, outside), pool, effort, seed, bar)
                for attack, values in heads.items():
                    spread = _spread(values, pool, counts)
                    key = ("business", attack)
                    found[key] = found[key] + spread if key in found else spread
            return found

        found = membership(
            of_bundles(bundles), inside, outside, effort, seed, more=more, done=bar.update
        )
    if shadows is None:
        return found
    return _with_shadows(found, run, (inside, outside), shadows, dataset.key)


def _heads(
    bundle: Bundle,
    sides: tuple[Candidates, Candidates],
    pool: int,
    effort: Effort,
    seed: int,
    bar: Progress,
) -> dict[str, Array]:
    """LiRA on heads over one encoder: attack -> scores of a pool, members first."""
    parts = [side.part(np.arange(pool)) for side in sides]
    view = tf.function(most_draws(bundle.encoder)[1], autograph=False, reduce_retracing=True)
    cached = []
    for part in parts:
        for start in range(0, pool, _BATCH):
            images = part.read(part.numbers[start : start + _BATCH])
            # Half the memory; features are not known to more digits than that.
            cached.append(view(tf.convert_to_tensor(images)).numpy().astype(np.float16))
            bar.update(1, "features for heads")
    labels = {
        task: np.concatenate([part.labels.business[task] for part in parts])
        for task in bundle.business.output
    }
    seed = layer_seed(seed, "membership/heads")
    return head_scores(
        bundle.business,
        np.concatenate(cached),
        labels,
        pool,
        effort.heads,
        effort.head_epochs,
        seed,
        lambda: bar.update(1, "heads for LiRA"),
    )


def _spread(values: Array, pool: int, counts: tuple[int, int]) -> Array:
    """Scores of the first rows of both sides in their places among all; NaN for the others."""
    found = np.full(sum(counts), np.nan)
    found[:pool], found[counts[0] : counts[0] + len(values) - pool] = values[:pool], values[pool:]
    return found


def _with_shadows(
    found: Membership,
    run: SavedRun,
    sides: tuple[Candidates, Candidates],
    shadows: Shadows,
    key: bytes | None,
) -> Membership:
    """Adds LiRA with shadows of the whole model."""
    counts = len(sides[0].numbers), len(sides[1].numbers)
    others = min(counts)
    pool = joined(sides[0], sides[1].part(np.arange(others)))
    seed = layer_seed(run.config.train.seed, "membership/shadows")

    def train(number: int, places: Array, folder: Path) -> Array:
        bundles = shadows.train(number, pool.part(places), folder)
        return _observed(bundles, pool)

    weights, numbers = weights_digest(networks(run)), (sides[0].numbers, sides[1].numbers[:others])
    about, earlier = (
        {"weights": weights, "rows": digest(*numbers, key=secret)} for secret in (key, None)
    )
    with Progress(shadows.count, "shadow models", "models") as bar:
        logits, inside = train_shadows(
            shadows.folder,
            about,
            shadows.count,
            counts[0],
            others,
            seed,
            train,
            bar.update,
            earlier=earlier,
        )
    observed = _observed(networks(run), pool)
    scores = dict(found.scores)
    for name, attack in _FULL.items():
        values = attack(observed, logits, inside)
        scores["business", name] = _spread(values, counts[0], counts)
    scores = attackable(scores, found.split)
    whole = {**found.summary, **summary(scores, found.split)}
    return Membership(whole, scores, found.split)


def _observed(bundles: Mapping[str, Bundle], pool: Candidates) -> Array:
    outputs = read_outputs(of_bundles(bundles), pool)
    return scaled_logits(outputs.logits, outputs.labels)
