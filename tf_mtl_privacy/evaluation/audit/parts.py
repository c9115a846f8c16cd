"""The parts of an audit of a run: membership, private label, inversion, epsilon, and its duration.

The command `audit` imports this module before TensorFlow, so functions import what needs it.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from tf_mtl_privacy.config import AUDIT_FOLDER, RESULTS_FILE, DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.evaluation.schema import (
    DPAudit,
    DPStatus,
    Inversion,
    Omission,
    ProbeResults,
    read_results,
)
from tf_mtl_privacy.progress import Progress

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.evaluation.membership.outputs import Candidates
    from tf_mtl_privacy.evaluation.membership.run import MembershipResult
    from tf_mtl_privacy.models.bundle import Bundle
    from tf_mtl_privacy.training.saved_run import SavedRun
    from tf_mtl_privacy.types import Array

SHADOWS = "shadows"
_DEFAULT_COUNT, _MAX_TRAINING_SECONDS = 8, 20 * 60
# Random stream of the faces that the inversion attacker draws.
_INVERSION_STREAM = "inversion"


class Contradictions(TypedDict):
    """Contradicted claims, and findings that do not count as contradictions."""

    contradictions: list[str]
    contradictions_withheld: list[Omission]


@dataclasses.dataclass(frozen=True)
class Audited:
    """The run under audit.

    Attributes:
        run: the run.
        dataset: its own data.
        data: the options that the data was opened with.
        setting: 'fast' or 'thorough'.
        rows: largest number of members and of non-members; 0 means the setting's.
        not_done: the parts that are left out, with the reason; grows.
    """

    run: SavedRun
    dataset: Dataset
    data: DataConfig
    setting: str
    rows: int
    not_done: list[Omission]

    def leave_out(self, what: str, why: str) -> None:
        """Records a part that is left out."""
        self.not_done.append({"what": what, "why": why})


def shadow_count(asked: int, setting: str, seconds: float | None) -> tuple[int, str]:
    """Returns the number of shadow models, and the reason where it is 0.

    Args:
        asked: `--shadows`.
        setting: 'fast' or 'thorough'.
        seconds: training time of the run; None where unknown.
    """
    if asked > 0:
        return asked, ""
    if asked != DEFAULT_SHADOWS:
        return 0, "--shadows=0"
    if setting == "fast":
        return 0, "only --setting=thorough trains shadow models; LiRA on heads is the weaker attack"
    if seconds is None or seconds > _MAX_TRAINING_SECONDS:
        minutes = "unknown" if seconds is None else f"{seconds / 60:.0f} minutes"
        return 0, (
            f"training took longer than {_MAX_TRAINING_SECONDS // 60} minutes ({minutes}), and "
            "each shadow model takes as long; --shadows=N trains N of them all the same; LiRA on "
            "heads is the weaker attack"
        )
    return _DEFAULT_COUNT, ""


def expected_seconds(run: SavedRun, dataset: Dataset, shadows: int, rows: int) -> float | None:
    """Estimates the duration of a thorough audit from below; None without training times.

    Every row costs as much as in the run's first phase, which trained encoder and classifier. Fresh
    attackers cost what the fast ones of results.json did, scaled by their number, restarts, rows
    and epochs.

    Args:
        run: the run.
        dataset: its data.
        shadows: number of shadow models.
        rows: largest number of members and of non-members; 0 means the setting's.
    """
    from tf_mtl_privacy.evaluation.inversion import INVERSION_BUDGETS, epochs
    from tf_mtl_privacy.evaluation.membership.run import MEMBERSHIP_BUDGETS
    from tf_mtl_privacy.evaluation.probes.saved import networks

    training = run.status.get("training") or {}
    phase = (training.get("phases") or {}).get("business")
    if not phase or not phase.get("steps") or not phase.get("seconds"):
        return None
    per_row = phase["seconds"] / (phase["steps"] * run.config.train.batch_size)
    budget, inversion = MEMBERSHIP_BUDGETS["thorough"], INVERSION_BUDGETS["thorough"]
    members = min(rows or budget.rows, len(dataset.rows["train"]))
    heads = min(members, budget.head_rows) * budget.heads * budget.head_epochs
    passes = 2 * members + len(networks(run)) * heads + inversion.rows * epochs("thorough")
    attackers = _attacker_seconds(run, len(dataset.rows["train"]))
    return passes * per_row + shadows * (training.get("seconds") or 0.0) + attackers


def membership_part(audited: Audited, shadows: int) -> MembershipResult:
    """Runs membership inference with `shadows` shadow models."""
    from tf_mtl_privacy.evaluation.membership.attacks import THRESHOLDS
    from tf_mtl_privacy.evaluation.membership.run import MEMBERSHIP_BUDGETS
    from tf_mtl_privacy.evaluation.membership.saved import Shadows, attack_run

    budget = MEMBERSHIP_BUDGETS[audited.setting]
    if audited.rows:
        budget = budget.with_rows(audited.rows)
    run, folder = audited.run, audited.run.run_dir / AUDIT_FOLDER / SHADOWS

    def train(number: int, rows: Candidates, place: Path) -> Mapping[str, Bundle]:
        return _train_shadow(audited, number, rows, place)

    full = Shadows(shadows, folder, train) if shadows else None
    result = attack_run(run, audited.dataset, audited.data, budget, full)
    if unscored := [name for name in THRESHOLDS if name not in result.summary["business"]]:
        audited.leave_out(", ".join(unscored), "too few rows have a label for every task")
    return result


def attribute_part(audited: Audited) -> ProbeResults | None:
    """Attacks the private label; takes the figures of results.json if they suffice."""
    from tf_mtl_privacy.evaluation.probes.saved import kept_probe, probe_run

    run, dataset = audited.run, audited.dataset
    cached = kept_probe(run.run_dir / RESULTS_FILE, run, dataset, audited.data)
    if not dataset.private_classes:
        audited.leave_out("attributes", "the data has no private label")
        return None
    if audited.setting == "fast" or (cached and cached["setting"] == "thorough"):
        if cached is None:
            audited.leave_out(
                "attributes",
                f"{RESULTS_FILE} has no fresh attackers of these weights; evaluate --probe=fast "
                "makes them, or --setting=thorough here",
            )
        return cached
    try:
        return probe_run(run, dataset, audited.data, dataset.rows["test"], "thorough", is_own=True)
    except UsageError as error:
        audited.leave_out("attributes", str(error))
        return None


def inversion_part(audited: Audited) -> Inversion | None:
    """Restores test pictures with an attacker's decoder, trained on pictures of its own.

    `attacker_people` is "other" if they show other people than the attacked pictures, "same" if
    they show the same people, or "unknown".
    """
    from tf_mtl_privacy.evaluation.inversion import INVERSION_BUDGETS, epochs, invert
    from tf_mtl_privacy.evaluation.probes.saved import networks
    from tf_mtl_privacy.evaluation.probes.targets import most_draws, seen_by
    from tf_mtl_privacy.models.layers import layer_seed

    dataset, budget = audited.dataset, INVERSION_BUDGETS[audited.setting]
    test = dataset.rows["test"][: budget.tests]
    if not len(test):
        audited.leave_out("inversion", "there are no test rows to restore")
        return None
    images, people = _attacker_pictures(audited, test, budget.rows)
    if len(images) < 2:
        audited.leave_out("inversion", "the data has no validation rows of other people")
        return None
    first, *others = networks(audited.run).items()
    if others:
        audited.leave_out(
            "inversion of " + ", ".join(task for task, _ in others),
            f"of the encoders, one for each task, only that of {first[0]} is inverted",
        )
    bundle = first[1]
    see = seen_by(most_draws(bundle.encoder)[1], images)
    originals = dataset.store.images(test)
    with Progress(2 + epochs(audited.setting), "feature inversion", "epochs") as bar:
        features = see(images), see(originals)
        bar.update(2)
        figures = invert(
            features[0],
            images,
            features[1],
            originals,
            person=None if dataset.person is None else dataset.person[test],
            restored=_restored(bundle, features),
            setting=audited.setting,
            seed=layer_seed(audited.run.config.train.seed, "audit/inversion"),
            done=bar.update,
        )
    return {**figures, "attacker_people": people}


def epsilon_part(audited: Audited) -> DPAudit:
    """Bounds epsilon from below with canaries, beside the claimed epsilon."""
    from tf_mtl_privacy.evaluation.dp_audit.run import claim_of, dp_audit, no_claim, work

    dp = cast("DPStatus | None", audited.run.status.get("dp"))
    if not dp or "released" not in dp:
        return dp_audit(no_claim("the run was trained without differential privacy"))
    claim = claim_of(dp, audited.run.config.privacy.clipping)
    with Progress(max(work(claim, audited.setting), 1), "audit with canaries", "updates") as bar:
        return dp_audit(claim, setting=audited.setting, done=bar.update)


def contradiction_parts(
    audited: Audited, result: MembershipResult, verdict: str, epsilon: DPAudit
) -> Contradictions:
    """Lists the claims that membership attacks or canaries contradict.

    Args:
        audited: the run under audit.
        result: membership attacks.
        verdict: on their figures, see `membership.verdict`.
        epsilon: the part `dp_audit`.
    """
    from tf_mtl_privacy.evaluation.membership.claims import contradictions
    from tf_mtl_privacy.evaluation.membership.verdict import INVALID

    dp = cast("DPStatus | None", audited.run.status.get("dp"))
    exceeded = contradictions(result.scores, result.split, dp)
    why = ""
    if verdict == INVALID:
        # A difference between the two samples is no evidence against a claim about the model.
        why = "members and non-members are told apart without any model"
    elif _has_several_of_a_person(audited.dataset):
        why = (
            "the claim is of one picture and people have several training pictures: that others "
            "of the same person are members is no evidence against it"
        )
    withheld: list[Omission] = [{"what": text, "why": why} for text in exceeded] if why else []
    messages = [] if why else exceeded
    if epsilon["verdict"] == "contradicted":
        messages = [*messages, epsilon["text"]]
    return {"contradictions": messages, "contradictions_withheld": withheld}


def _attacker_seconds(run: SavedRun, train_rows: int) -> float:
    """Estimates the seconds of thorough fresh attackers; 0 if they exist or fast ones do not.

    For data other than synthetic faces, attackers have the training rows only.
    """
    from tf_mtl_privacy.evaluation.probes.budget import FAST, THOROUGH
    from tf_mtl_privacy.evaluation.probes.run import count_attackers
    from tf_mtl_privacy.evaluation.probes.saved import networks

    try:
        probe = read_results(Path(run.run_dir) / RESULTS_FILE)["privacy"].get("probe")
    except (RunError, KeyError, TypeError):
        return 0.0
    if not probe or probe["setting"] == "thorough":
        return 0.0
    # The attackers that ran then: the budget may have had others.
    parts: list[Any] = [part for part in probe.values() if isinstance(part, dict)]
    kinds = [kind for part in parts for kind in part.get("by_rows", {"": part}).values()]
    ran = sum(len(kind.get("attackers", ())) for kind in kinds)
    max_rows = math.inf if run.config.data.dataset == "synthetic_faces" else train_rows
    passes = [min(budget.rows, max_rows) * budget.epochs for budget in (FAST, THOROUGH)]
    larger = count_attackers(networks(run), THOROUGH) * THOROUGH.restarts / max(ran, 1)
    return float(probe["seconds"]) * larger * passes[1] / passes[0]


def _train_shadow(
    audited: Audited, number: int, rows: Candidates, place: Path
) -> Mapping[str, Bundle]:
    """Trains a run of the same configuration on other rows, with the same validation rows."""
    import numpy as np

    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.evaluation.probes.saved import networks
    from tf_mtl_privacy.evaluation.training_checks import fresh_check
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
    # The rows of each person are bounded already, and these arrays do not identify people.
    bounded = dataclasses.replace(config.privacy, max_images_per_person=0)
    alike = dataclasses.replace(config, train=seeded, privacy=bounded)
    # Where checks during training selected the attacked networks, they select the shadow's.
    selects = config.game.checkpoint_selection == "best" or config.game.check_epochs
    trained = fit(alike, own, run_dir=place, check=fresh_check(alike) if selects else None)
    # Only its logits are saved; its weights would take up space.
    shutil.rmtree(place)
    return networks(trained)


def _restored(bundle: Bundle, features: tuple[Array, Array]) -> tuple[Array, Array] | None:
    """Returns the released restorer's output for both; None where none is released."""
    from tf_mtl_privacy.evaluation.probes.targets import seen_by

    restorer = bundle.restorer
    if restorer is None:
        return None
    see = seen_by(lambda rows: restorer(rows, training=False), features[0])
    return see(features[0]), see(features[1])


def _attacker_pictures(audited: Audited, test: Array, max_rows: int) -> tuple[Array, str]:
    """Returns the attacker's pictures `[n, S, S, 3]` uint8, n <= `max_rows`, and who they show."""
    import numpy as np

    from tf_mtl_privacy.data.sources.synthetic import fresh_faces

    dataset = audited.dataset
    if audited.data.dataset == "synthetic_faces":
        read, _ = fresh_faces(audited.data, _INVERSION_STREAM, max_rows)
        # With identities all streams draw the same people; without, every face is a new one.
        return read(np.arange(max_rows)), "other" if dataset.person is None else "same"
    rows = _of_other_people(dataset, test)[:max_rows]
    images = dataset.store.images(rows)
    if dataset.person is None or (dataset.person[np.concatenate([rows, test])] < 0).any():
        return images, "unknown"
    return images, "other"


def _of_other_people(dataset: Dataset, test: Array) -> Array:
    """Returns the validation rows of people without test rows; all where people are unknown."""
    import numpy as np

    rows = dataset.rows["validation"]
    if dataset.person is None:
        return rows
    return rows[~np.isin(dataset.person[rows], dataset.person[test])]


def _has_several_of_a_person(dataset: Dataset) -> bool:
    """Returns True if a person is known to have more than one training picture."""
    import numpy as np

    if dataset.person is None:
        return False
    people = dataset.person[dataset.rows["train"]]
    known = people[people >= 0]
    return len(np.unique(known)) < len(known)
