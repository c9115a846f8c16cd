"""Membership inference against an exported model, from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.compatibility import check_tasks
from tf_mtl_privacy.evaluation.membership.attacks import count_attacks
from tf_mtl_privacy.evaluation.membership.budget import EFFORTS
from tf_mtl_privacy.evaluation.membership.outputs import BATCH, ExportedModel
from tf_mtl_privacy.evaluation.membership.rows import Candidates, members, non_members
from tf_mtl_privacy.evaluation.membership.run import membership
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving_signature import ENCODE, RESTORE

_INSIDE = {
    "lira": "shadow models and heads need the run's configuration and its networks",
    "discriminator_loss": "a discriminator is not exported",
    "attributes": "fresh attackers are sent by evaluate --probe and audit --run_dir, to a run",
    "inversion": "the attacker's decoder is trained by audit --run_dir, on a run",
    "dp_audit": "canaries test the private updates of a run; an exported model only has their end",
}
_MISSING = {
    ENCODE: ("attacks on features", "the model has no signature encode"),
    RESTORE: ("restoration_error", "the model has no signature restore"),
}


def attack_exported(
    path: str, data: DataConfig, setting: str, rows: int = 0
) -> tuple[dict[str, Any], list[dict[str, str]], Path]:
    """(the `membership` part of audit.json, what was not done and why, the version's folder).

    Args:
        path: the SavedModel's folder, or that of its versions.
        data: training rows are the members, test rows the non-members.
        setting: 'fast' or 'thorough'.
        rows: most of each; 0 means the setting's.

    Raises:
        UsageError: no such model, pictures of another size, other tasks, or too few rows.
        RunError: it cannot be loaded.
    """
    model = ExportedModel(path)
    if model.image_size != data.image_size:
        raise UsageError(
            f"--image_size={data.image_size}: the model takes pictures of {model.image_size}"
        )
    dataset, effort = open_dataset(data).aligned(model.task_classes, ()), EFFORTS[setting]
    check_tasks(model.task_classes, dataset.task_classes)
    most = rows or effort.rows
    sides = members(dataset, most, 0), non_members(dataset, data, most, 1)
    inside, outside = (_of_tasks(side, model) for side in sides)
    batches = sum(-(-len(side.numbers) // BATCH) for side in (inside, outside))
    with Progress(batches + 1 + count_attacks(effort.learners), "membership", "steps") as bar:
        found = membership(model.forward(), inside, outside, effort, 0, done=bar.update)
    reasons = _INSIDE | {
        what: why for name, (what, why) in _MISSING.items() if name in model.missing
    }
    not_done = [{"what": what, "why": why} for what, why in reasons.items()]
    return found.summary, not_done, model.folder


def _of_tasks(side: Candidates, model: ExportedModel) -> Candidates:
    """Without the labels of tasks that the model does not have."""
    business = {task: side.labels.business[task] for task in model.task_classes}
    return side._replace(labels=Labels(business, side.labels.private))
