"""Membership inference against a saved run or an exported model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.compatibility import check_tasks
from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.attacks import attackable, count_attacks, scaled_logits
from tf_mtl_privacy.evaluation.membership.lira import digest, head_scores, train_shadows
from tf_mtl_privacy.evaluation.membership.outputs import (
    BATCH,
    Candidates,
    ExportedModel,
    ReleasedOutputs,
    joined,
    members,
    non_members,
    of_bundles,
    read_outputs,
)
from tf_mtl_privacy.evaluation.membership.run import (
    MEMBERSHIP_BUDGETS,
    MembershipBudget,
    MembershipResult,
    Scores,
    membership,
    summary,
)
from tf_mtl_privacy.evaluation.probes.saved import networks, weights_digest
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.evaluation.schema import Membership, Omission
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving_signature import ENCODE, RESTORE
from tf_mtl_privacy.training.saved_run import SavedRun
from tf_mtl_privacy.types import Array

# (number of the shadow, the rows that it is trained on, folder to work in) -> its networks.
Trainer = Callable[[int, Candidates, Path], Mapping[str, Bundle]]
_FULL = {"lira_offline": lira.offline, "lira_online": lira.online}
# Parts that an audit from outside leaves out, with the reason.
_INSIDE = {
    "lira": "shadow models and heads need the run's configuration and its networks",
    "discriminator_loss": "a discriminator is not exported",
    "attributes": "fresh attackers need a run: evaluate --probe or audit --run_dir",
    "inversion": "the attacker's decoder needs a run: audit --run_dir",
    "dp_audit": "canaries test the private updates of a run, which an exported model lacks",
}
# Signature -> the attacks that need it, and the reason where it is missing.
_MISSING = {
    ENCODE: ("attacks on features", "the model has no signature encode"),
    RESTORE: ("restoration_error", "the model has no signature restore"),
}


@dataclasses.dataclass(frozen=True)
class Shadows:
    """Shadow models of the whole run.

    Attributes:
        count: number of shadow models, even.
        folder: folder of their files.
        train: trains one shadow model.
    """

    count: int
    folder: Path
    train: Trainer


def attack_run(
    run: SavedRun,
    dataset: Dataset,
    data: DataConfig,
    budget: MembershipBudget,
    shadows: Shadows | None = None,
) -> MembershipResult:
    """Attacks a run with its own training rows as members.

    Args:
        run: the run.
        dataset: the data that it was trained on, with the training rows that were used.
        data: the options that it was opened with.
        budget: the attackers' budget.
        shadows: shadow models of the whole run, for the full LiRA; None leaves it out.

    Raises:
        UsageError: too few rows.
        RunError: shadows of another run, or a file that cannot be written.
    """
    seed, bundles = run.config.train.seed, networks(run)
    count = budget.rows if shadows is None else max(budget.rows, len(dataset.rows["train"]))
    inside = members(dataset, count, layer_seed(seed, "membership/members"))
    outside = non_members(dataset, data, count, layer_seed(seed, "membership/non_members"))
    counts = len(inside.numbers), len(outside.numbers)
    pool = min(budget.head_rows, *counts)
    batches = sum(-(-count // BATCH) for count in (*counts, *[2 * pool] * len(bundles)))
    attacks = count_attacks(budget.learners) + 1 + budget.heads * len(bundles)
    with Progress(batches + attacks, "membership attacks", "steps") as bar:

        def further(outputs: ReleasedOutputs) -> Scores:
            scores: dict[tuple[str, str], Array] = {}
            for bundle in bundles.values():
                heads = _heads(bundle, (inside, outside), pool, budget, seed, bar)
                for attack, values in heads.items():
                    spread = _spread(values, pool, counts)
                    key = ("business", attack)
                    scores[key] = scores[key] + spread if key in scores else spread
            return scores

        result = membership(
            of_bundles(bundles), inside, outside, budget, seed, further=further, done=bar.update
        )
    if shadows is None:
        return result
    return _with_shadows(result, run, (inside, outside), shadows, dataset.key)


def attack_exported(
    path: str, data: DataConfig, setting: str, rows: int = 0
) -> tuple[Membership, list[Omission], Path]:
    """Attacks an exported model through its signatures.

    Args:
        path: the SavedModel's folder, or that of its versions.
        data: training rows are the members, test rows the non-members.
        setting: 'fast' or 'thorough'.
        rows: largest number of each; 0 means the setting's.

    Returns:
        The `membership` part of audit.json, the parts that are left out, the version's folder.

    Raises:
        UsageError: no such model, pictures of another size, other tasks, or too few rows.
        RunError: it cannot be loaded.
    """
    model = ExportedModel(path)
    if model.image_size != data.image_size:
        raise UsageError(
            f"--image_size={data.image_size}: the model takes pictures of {model.image_size}"
        )
    dataset = open_dataset(data).aligned(model.task_classes, ())
    budget = MEMBERSHIP_BUDGETS[setting]
    check_tasks(model.task_classes, dataset.task_classes)
    count = rows or budget.rows
    sides = members(dataset, count, 0), non_members(dataset, data, count, 1)
    inside, outside = (_of_tasks(side, model) for side in sides)
    batches = sum(-(-len(side.numbers) // BATCH) for side in (inside, outside))
    steps = batches + 1 + count_attacks(budget.learners)
    with Progress(steps, "membership attacks", "steps") as bar:
        result = membership(model.forward(), inside, outside, budget, 0, done=bar.update)
    reasons = _INSIDE | {
        what: why for name, (what, why) in _MISSING.items() if name in model.missing
    }
    not_done: list[Omission] = [{"what": what, "why": why} for what, why in reasons.items()]
    return result.summary, not_done, model.folder


def _heads(
    bundle: Bundle,
    sides: tuple[Candidates, Candidates],
    pool: int,
    budget: MembershipBudget,
    seed: int,
    bar: Progress,
) -> dict[str, Array]:
    """Runs LiRA on heads over one encoder: attack -> scores of a pool, members first."""
    parts = [side.part(np.arange(pool)) for side in sides]
    view = tf.function(most_draws(bundle.encoder)[1], autograph=False, reduce_retracing=True)
    cached = []
    for part in parts:
        for start in range(0, pool, BATCH):
            images = part.read(part.numbers[start : start + BATCH])
            # float16 halves the memory; its precision suffices.
            cached.append(view(tf.convert_to_tensor(images)).numpy().astype(np.float16))
            bar.update(1, "computing features")
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
        budget.heads,
        budget.head_epochs,
        seed,
        lambda: bar.update(1, "LiRA heads"),
    )


def _spread(values: Array, pool: int, counts: tuple[int, int]) -> Array:
    """Puts scores of the first rows of both sides in their places; NaN for the other rows."""
    scores = np.full(sum(counts), np.nan)
    scores[:pool], scores[counts[0] : counts[0] + len(values) - pool] = values[:pool], values[pool:]
    return scores


def _with_shadows(
    result: MembershipResult,
    run: SavedRun,
    sides: tuple[Candidates, Candidates],
    shadows: Shadows,
    key: bytes | None,
) -> MembershipResult:
    """Adds LiRA with shadow models of the whole run."""
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
    scores = dict(result.scores)
    for name, attack in _FULL.items():
        values = attack(observed, logits, inside)
        scores["business", name] = _spread(values, counts[0], counts)
    scores = attackable(scores, result.split)
    whole = cast(Membership, {**result.summary, **summary(scores, result.split)})
    return MembershipResult(whole, scores, result.split)


def _observed(bundles: Mapping[str, Bundle], pool: Candidates) -> Array:
    outputs = read_outputs(of_bundles(bundles), pool)
    return scaled_logits(outputs.logits, outputs.labels)


def _of_tasks(side: Candidates, model: ExportedModel) -> Candidates:
    """Leaves out the labels of tasks that the model does not have."""
    business = {task: side.labels.business[task] for task in model.task_classes}
    return side._replace(labels=Labels(business, side.labels.private))
