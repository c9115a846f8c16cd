"""The parts of an audit of a run: membership, private label, epsilon."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import AUDIT_FOLDER, RESULTS_FILE, DataConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.progress import Progress

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.evaluation.membership.rows import Candidates
    from tf_mtl_privacy.evaluation.membership.run import Membership
    from tf_mtl_privacy.models.bundle import Bundle
    from tf_mtl_privacy.training.saved_run import SavedRun

SHADOWS = "shadows"
_USUAL_SHADOWS, _LONGEST_TRAINING = 8, 20 * 60


@dataclasses.dataclass(frozen=True)
class Audited:
    """What is audited.

    Attributes:
        run: the run.
        dataset: its own data.
        data: what that was opened with.
        setting: 'fast' or 'thorough'.
        rows: most members and non-members; 0 means the setting's.
        not_done: `{"what", "why"}` of all that is left out; grows.
    """

    run: SavedRun
    dataset: Dataset
    data: DataConfig
    setting: str
    rows: int
    not_done: list[dict[str, str]]

    def leave_out(self, what: str, why: str) -> None:
        """Says that something is not done."""
        self.not_done.append({"what": what, "why": why})


def shadow_count(asked: int, setting: str, seconds: float | None) -> tuple[int, str]:
    """(how many shadow models to train, why there are none).

    Args:
        asked: `--shadows`.
        setting: 'fast' or 'thorough'.
        seconds: that training took; None where it is not known.
    """
    if asked > 0:
        return asked, ""
    if asked != DEFAULT_SHADOWS:
        return 0, "--shadows=0"
    if setting == "fast":
        return 0, "only --setting=thorough trains shadow models; LiRA on heads is the weaker attack"
    if seconds is None or seconds > _LONGEST_TRAINING:
        minutes = "unknown" if seconds is None else f"{seconds / 60:.0f} minutes"
        return 0, (
            f"training took longer than {_LONGEST_TRAINING // 60} minutes ({minutes}), and each "
            "shadow model takes as long; --shadows=N trains N of them all the same; LiRA on heads "
            "is the weaker attack"
        )
    return _USUAL_SHADOWS, ""


def membership_part(audited: Audited, shadows: int) -> Membership:
    """Membership inference with `shadows` shadow models."""
    from tf_mtl_privacy.evaluation.membership.attacks import THRESHOLDS
    from tf_mtl_privacy.evaluation.membership.budget import EFFORTS
    from tf_mtl_privacy.evaluation.membership.saved import Shadows, attack_run

    effort = EFFORTS[audited.setting]
    if audited.rows:
        effort = effort.with_rows(audited.rows)
    run, folder = audited.run, audited.run.run_dir / AUDIT_FOLDER / SHADOWS

    def train(number: int, rows: Candidates, place: Path) -> Mapping[str, Bundle]:
        return _train_shadow(audited, number, rows, place)

    full = Shadows(shadows, folder, train) if shadows else None
    found = attack_run(run, audited.dataset, audited.data, effort, full)
    if unscored := [name for name in THRESHOLDS if name not in found.summary["business"]]:
        audited.leave_out(", ".join(unscored), "too few rows have a label for every task")
    return found


def _train_shadow(
    audited: Audited, number: int, rows: Candidates, place: Path
) -> Mapping[str, Bundle]:
    """A run of the same configuration on other rows, with the same validation rows."""
    import numpy as np

    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.evaluation.probes.check import fresh_check
    from tf_mtl_privacy.evaluation.probes.saved import networks
    from tf_mtl_privacy.training.fit import fit

    dataset, config = audited.dataset, audited.run.config
    held_out = dataset.rows["validation"]
    labels = dataset.labels_of(held_out)
    count = len(rows.numbers)
    own = Dataset.from_arrays(
        np.concatenate([rows.read(rows.numbers), dataset.store.images(held_out)]),
        {t: np.concatenate([v, labels.business[t]]) for t, v in rows.labels.business.items()},
        np.concatenate([rows.labels.private, labels.private]) if dataset.private_classes else None,
        split=np.repeat([0, 1], [count, len(held_out)]),
        task_classes=dataset.task_classes,
        private_classes=dataset.private_classes or None,
        name=dataset.name,
    )
    seeded = dataclasses.replace(config.train, seed=config.train.seed + 1 + number)
    # The rows of each person are bounded already, and these do not say whose they are.
    bounded = dataclasses.replace(config.privacy, max_images_per_person=0)
    alike = dataclasses.replace(config, train=seeded, privacy=bounded)
    # Where attackers along the way chose the attacked networks, they choose the shadow's.
    check = (
        fresh_check(alike)
        if config.game.checkpoint_selection == "best" or config.game.check_epochs
        else None
    )
    trained = fit(alike, own, run_dir=place, check=check)
    # What is kept are its answers; its weights would only take room.
    shutil.rmtree(place)
    return networks(trained)


def attribute_part(audited: Audited) -> dict[str, Any] | None:
    """Fresh attackers on the private label: kept ones where they are of the same weights."""
    from tf_mtl_privacy.evaluation.probes.saved import kept_probe, probe_run

    run, dataset = audited.run, audited.dataset
    kept = kept_probe(run.run_dir / RESULTS_FILE, run, dataset, audited.data)
    if not dataset.private_classes:
        audited.leave_out("attributes", "the data has no private label")
        return None
    if audited.setting == "fast" or (kept and kept["setting"] == "thorough"):
        if kept is None:
            audited.leave_out(
                "attributes",
                f"{RESULTS_FILE} has no fresh attackers of these weights; evaluate --probe=fast "
                "makes them, or --setting=thorough here",
            )
        return kept
    try:
        return probe_run(run, dataset, audited.data, dataset.rows["test"], "thorough", is_own=True)
    except UsageError as error:
        audited.leave_out("attributes", str(error))
        return None


def epsilon_part(audited: Audited) -> dict[str, Any]:
    """A lower bound on epsilon from canaries, beside what is claimed."""
    from tf_mtl_privacy.evaluation.dp_audit.run import claim_of, dp_audit, no_claim, work

    dp = audited.run.status.get("dp")
    if not dp or "released" not in dp:
        return dp_audit(no_claim("the run was trained without differential privacy"))
    claim = claim_of(dp, audited.run.config.privacy.clipping)
    with Progress(max(work(claim, audited.setting), 1), "canaries", "updates") as bar:
        return dp_audit(claim, setting=audited.setting, done=bar.update)


def contradiction_parts(
    audited: Audited, found: Membership, verdict: str, epsilon: Mapping[str, Any]
) -> dict[str, Any]:
    """`contradictions`, sentences, and `contradictions_withheld`, `{"what", "why"}` of each.

    Args:
        audited: what is audited.
        found: what membership attacks found.
        verdict: what their figures are worth, see `membership.verdict`.
        epsilon: the part `dp_audit`.
    """
    from tf_mtl_privacy.evaluation.membership.claims import contradictions
    from tf_mtl_privacy.evaluation.membership.verdict import INVALID

    exceeded = contradictions(found.scores, found.split, audited.run.status.get("dp"))
    why = ""
    if verdict == INVALID:
        # What tells the two samples apart without a model is no evidence against a claim on it.
        why = "members and non-members are told apart without any model"
    elif _several_of_a_person(audited.dataset):
        why = (
            "the claim is of one picture and people have several training pictures: that others "
            "of the same person are members is no evidence against it"
        )
    withheld = [{"what": sentence, "why": why} for sentence in exceeded] if why else []
    told = [] if why else exceeded
    if epsilon["verdict"] == "contradicted":
        told = [*told, epsilon["text"]]
    return {"contradictions": told, "contradictions_withheld": withheld}


def _several_of_a_person(dataset: Dataset) -> bool:
    """Whether somebody has more than one training picture, as far as is known."""
    import numpy as np

    if dataset.person is None:
        return False
    people = dataset.person[dataset.rows["train"]]
    known = people[people >= 0]
    return len(np.unique(known)) < len(known)
