"""Types of results.json and audit.json, and the only functions that read and write them.

docs/results-schema.md and docs/audit.md explain every key. A key is `NotRequired` where a file may
lack it: because an earlier version of the package did not write it, or because it only appears
under a condition that the type's docstring names. Rates are in [0, 1]. No TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import read_json, write_json
from tf_mtl_privacy.privacy.noise_record import checked_audit, checked_dp

RESULTS_VERSION = 1
AUDIT_VERSION = 1

# Families of fresh attackers, former name -> name. Files of earlier versions have the former ones.
FORMER_FAMILIES = {"soft": "softmax_pool_cnn", "placed": "positional_cnn", "local": "patch_cnn"}

# `[low, high]`, a 95 % confidence interval unless a key says otherwise.
Interval = list[float]


# Origin of a result.


class Hardware(TypedDict):
    """Machine of an evaluation; `memory_gib` in GiB."""

    cpu: str
    cores: int
    memory_gib: float
    accelerators: list[str]


class Commit(TypedDict):
    """Git commit of the package's checkout."""

    hash: str
    dirty: bool


class EvaluatedOn(TypedDict):
    """Data of an evaluation; `changed` has the data options that differ from the run's own."""

    dataset: str
    split: str
    data_fingerprint: str | None
    changed: dict[str, Any]
    label_note: str | None
    notes: list[str]


class Counts(TypedDict):
    """Numbers of rows; `people_seen` is None where the data does not identify people."""

    rows: dict[str, int]
    evaluated: int
    unknown_labels: dict[str, int]
    damaged: int
    people_seen: int | None


# Utility.


class Utility(TypedDict):
    """Figures of one task; None, with a `reason`, where no row has a label."""

    accuracy: float | None
    ci95: Interval | None
    balanced_accuracy: float | None
    f1: float | None
    majority: float | None
    chance: float
    n: int
    recall: dict[str, float | None]
    reason: NotRequired[str]


class PartialUtility(TypedDict):
    """Figures of one task without its chance levels; `reason` where there is no figure."""

    accuracy: float | None
    n: int
    balanced_accuracy: NotRequired[float | None]
    ci95: NotRequired[Interval | None]
    reason: NotRequired[str]


class Restoration(TypedDict):
    """Means over images, in dB and as SSIM; None, with a reason, where there is no figure."""

    psnr_db: float | None
    ssim: float | None
    mean_image_psnr_db: float | None
    n: int
    reason: NotRequired[str]
    mean_image_reason: NotRequired[str]


class Group(TypedDict):
    """Accuracy within one group; None, with a `reason`, for fewer than 20 rows."""

    accuracy: float | None
    n: int
    reason: NotRequired[str]


class NamedGroup(TypedDict):
    """The group with the lowest or highest accuracy."""

    group: str
    accuracy: float
    n: int


class Subgroups(TypedDict):
    """Accuracy of a task by group; `groups` is left out for people and for more than 16 groups."""

    worst: NamedGroup | None
    best: NamedGroup | None
    gap: float | None
    p_value: float | None
    adjusted_p_value: float | None
    too_small: int
    groups: NotRequired[dict[str, Group]]


# Fresh attackers.


class Reading(TypedDict):
    """Figures of one attacker on test rows."""

    accuracy: float
    balanced_accuracy: float
    ci95: Interval
    balanced_ci95: NotRequired[Interval]
    n: int


class NamedReading(Reading):
    """`Reading` with the attacker's name."""

    name: str


class Rates(TypedDict):
    """Accuracy and balanced accuracy of one attacker."""

    accuracy: float
    balanced_accuracy: float


class ByRows(TypedDict):
    """Figures of the attackers trained on one kind of rows.

    Without attackers `strongest` is None and `reason` the only other key.
    """

    strongest: NamedReading | None
    attackers: NotRequired[dict[str, Rates]]
    trained_on: NotRequired[str]
    rows: NotRequired[int]
    reason: NotRequired[str]


class Bound(TypedDict):
    """Largest upper bounds over all attackers of a target, by Bonferroni."""

    accuracy: float
    balanced_accuracy: float
    attacker: str
    trained_on: str
    attackers: int
    level: float
    method: str


class CurvePoint(TypedDict):
    """One point of a learning curve over `rows` or over `updates`."""

    balanced_accuracy: float
    balanced_ci95: Interval
    rows: NotRequired[int]
    updates: NotRequired[int]
    starts: NotRequired[list[float]]


class Patience(TypedDict):
    """Result of training attackers for longer."""

    checked: bool
    flat: bool | None
    reason: str


class Target(ByRows):
    """Figures of one attacked target; of `features` only, also `draws` and `own`."""

    by_rows: NotRequired[dict[str, ByRows]]
    bound: NotRequired[Bound]
    curve: NotRequired[list[CurvePoint]]
    trend: NotRequired[str]
    trend_words: NotRequired[str]
    updates_curve: NotRequired[list[CurvePoint]]
    patience: NotRequired[Patience]
    draws: NotRequired[int]
    own: NotRequired[ByRows]


class Strongest(TypedDict):
    """The strongest attacker, or None."""

    strongest: NamedReading | None


class BeforeGame(TypedDict):
    """Fresh attackers before the joint phase; `reason` where there is no figure."""

    balanced_accuracy: float | None
    reason: NotRequired[str]


class KeptAttacker(Reading):
    """A cached reading with the rows that its attacker learned from."""

    trained_on: str | None
    rows: int | None


class KeptBest(TypedDict):
    """Highest cached reading of a target."""

    strongest: NamedReading
    trained_on: str | None
    rows: int | None
    split: str
    setting: str | None
    readings: int
    attackers: NotRequired[dict[str, KeptAttacker]]
    bound: Bound


class ProbeTargets(TypedDict, total=False):
    """Targets of fresh attackers; which ones are there depends on the run and the version."""

    features: Target
    restored: Target
    pixels: Target
    untrained: Target
    logits: Target
    regions: Target
    features_and_regions: Target
    masked_pictures: Target
    one_draw: Target
    noiseless: Target
    planted: Target


class Strength(TypedDict):
    """Power of the attackers: True, with reasons, where they were too weak for a claim."""

    underpowered: bool
    underpowered_reasons: list[str]
    not_checked: list[str]


class ProbeResults(ProbeTargets, Strength):
    """`privacy.probe` of results.json and `attributes` of audit.json."""

    setting: str
    seconds: float
    before_game: BeforeGame
    removal_off: Strongest
    weights: str
    kept_readings: NotRequired[int]
    kept_best: NotRequired[dict[str, KeptBest]]


# Leakage: all measurements of the same weights, reconciled.


class LeakageReading(TypedDict):
    """Highest figures of one measurement."""

    source: str
    attacker: str
    accuracy: float | None
    balanced_accuracy: float | None
    upper: float | None
    trained_on: str | None
    rows: int | None
    all_attackers: bool


class LeakageByRows(TypedDict):
    """Highest figures of the attackers trained on one kind of rows."""

    accuracy: float | None
    upper: float | None
    rows: int | None


class LeakageTarget(TypedDict):
    """Leakage of one target; only the first keys and `reason` where it was not attacked."""

    accuracy: float | None
    upper: float | None
    reason: NotRequired[str]
    balanced_accuracy: NotRequired[float | None]
    attacker: NotRequired[str]
    source: NotRequired[str]
    upper_source: NotRequired[str]
    all_attackers: NotRequired[bool]
    rows: NotRequired[int | None]
    trained_on: NotRequired[str | None]
    by_rows: NotRequired[dict[str, LeakageByRows]]
    trend: NotRequired[str]
    trend_words: NotRequired[str | None]
    readings: NotRequired[list[LeakageReading]]


class WorstLeakage(TypedDict):
    """The target that leaks most; `upper` may belong to another one, `upper_target`."""

    target: str
    accuracy: float
    balanced_accuracy: float | None
    attacker: str
    source: str
    upper: float
    upper_target: str


class LeakageClaim(TypedDict):
    """The claimed bound: at most `upper` is read, at confidence `level`."""

    upper: float
    target: str
    level: float
    all_attackers: bool


class Rise(TypedDict):
    """A learning curve that is not flat."""

    target: str
    unit: str
    size: int
    trend: str
    words: str


class LeakageTargets(TypedDict, total=False):
    """Targets of `privacy.leakage` that some measurement names."""

    features: LeakageTarget
    restored: LeakageTarget
    pixels: LeakageTarget
    untrained: LeakageTarget
    logits: LeakageTarget
    regions: LeakageTarget
    features_and_regions: LeakageTarget
    masked_pictures: LeakageTarget
    one_draw: LeakageTarget
    noiseless: LeakageTarget
    planted: LeakageTarget
    removal_off: LeakageTarget


class Leakage(LeakageTargets, Strength):
    """`privacy.leakage` of results.json."""

    worst: WorstLeakage | None
    claim: LeakageClaim | None
    refused: list[str]
    rises: list[Rise]
    told: list[str]
    setting: str | None
    before_game: float | None
    weights: str | None


class Discriminator(PartialUtility):
    """Accuracy of the discriminator of the adversarial game; it is not the leakage."""

    note: str


class PrivacyResults(TypedDict):
    """`privacy` of results.json; without a private label `classes` is 0 and the rest None."""

    classes: int
    chance: float | None
    majority: float | None
    discriminator: Discriminator | None
    probe: NotRequired[ProbeResults | None]
    leakage: NotRequired[Leakage | None]
    reason: NotRequired[str]


# Sensitive regions and removal.


class FixedRegion(TypedDict):
    """Scores of one guess for every picture: the mean true region of validation rows."""

    iou: float
    pointing: float
    energy: float
    area: float


class Regions(TypedDict):
    """Scores of the marked regions against known sensitive ones."""

    source: str | None
    truth: str | None
    iou: float | None
    pointing: float | None
    energy: float | None
    area: float | None
    covered: float | None
    covered_p1: float | None
    true_area: float | None
    share: float | None
    fixed: FixedRegion | None
    n: int
    reason: NotRequired[str]


class Removal(TypedDict):
    """Methods in force that remove the private label from the features."""

    mask: str
    feature_noise: float
    erasure: str
    erasure_labels: str | None
    entries: int
    capacity_bits: float | None


# Training.


class Gate(TypedDict):
    """Threshold of a pre-training phase and the value reached."""

    status: str
    threshold: dict[str, float]
    value: dict[str, float | None]
    epochs: int
    bound: int


class StopRulePart(TypedDict):
    """One bound of the stop rule."""

    status: str
    value: float | None
    bound: float


class StopRule(TypedDict):
    """The stop rule after the last joint epoch."""

    met: bool
    parts: dict[str, StopRulePart]


class PhaseStatus(TypedDict):
    """Progress of one training phase."""

    epochs: int
    most_epochs: int
    steps: int
    seconds: float


class InLoop(TypedDict):
    """Largest balanced accuracy of the in-loop discriminator after a joint epoch."""

    most_balanced_accuracy: float | None
    epochs: int


class TrainingStatus(TypedDict):
    """`training` of results.json; of single-task runs `tasks` has the keys from `phases` on."""

    model: NotRequired[str]
    steps: int
    seconds: NotRequired[float]
    phases: NotRequired[dict[str, PhaseStatus]]
    final_beta: NotRequired[float]
    before_game: NotRequired[dict[str, float]]
    final_check: NotRequired[dict[str, float]]
    kept_epoch: NotRequired[int | None]
    in_loop: NotRequired[InLoop]
    parameters: NotRequired[dict[str, int]]
    perceptual_loss: NotRequired[str]
    tasks: NotRequired[dict[str, TrainingStatus]]


# Differential privacy.


class Epsilons(TypedDict):
    """Epsilon by privacy loss distributions and by Renyi differential privacy, or None."""

    epsilon_pld: float | None
    epsilon_rdp: float | None


class DPPhase(Epsilons):
    """One kind of private updates."""

    steps: int
    steps_planned: int
    steps_in_weights: int
    noise_multiplier: float
    sampling: str
    sampling_probability: float
    rows: int
    overflow_probability: float
    paper_rule_one_step: float | None
    library_epsilon: float | None
    # tensorflow-privacy's text; it is in training.json and not in results.json.
    statement: NotRequired[str | None]


class DPBudget(TypedDict):
    """A target epsilon and the kinds of updates that share it."""

    updates: list[str]
    target_epsilon: float
    missed: NotRequired[str | None]
    exceeded: NotRequired[str | None]


class DPStatus(Epsilons):
    """`dp` of results.json; keys from `adjacency` on exist for runs with private updates."""

    reason: str | None
    scope: NotRequired[str | None]
    delta: NotRequired[float | None]
    sampling: NotRequired[str | None]
    unit: NotRequired[str | None]
    steps: NotRequired[int]
    void: NotRequired[bool]
    phases: NotRequired[dict[str, DPPhase]]
    conditional: NotRequired[dict[str, float | None]]
    released: NotRequired[dict[str, float | None]]
    unaccounted_label_access: NotRequired[list[str]]
    validation_label_access: NotRequired[list[str]]
    public_label_access: NotRequired[list[str]]
    as_run: NotRequired[Epsilons]
    adjacency: NotRequired[str]
    noise: NotRequired[str | None]
    void_reason: NotRequired[str | None]
    l2_norm_clip: NotRequired[float]
    max_images_per_person: NotRequired[int]
    person: NotRequired[Epsilons]
    public_backbone: NotRequired[str | None]
    budgets: NotRequired[list[DPBudget]]
    budget_ended: NotRequired[dict[str, int]]


class Evaluation(TypedDict):
    """The part of results.json that one evaluation measures."""

    counts: Counts
    utility: dict[str, Utility]
    utility_unseen_people: dict[str, PartialUtility]
    # Left out of some files in docs/results, for their size.
    utility_on_restored: NotRequired[dict[str, Utility] | None]
    subgroups: NotRequired[dict[str, dict[str, Subgroups]]]
    restoration: Restoration
    privacy: PrivacyResults
    regions: NotRequired[Regions]


class Results(Evaluation):
    """results.json."""

    schema_version: int
    model: str
    seed: int
    config: dict[str, dict[str, Any]]
    versions: dict[str, str | None]
    hardware: Hardware
    commit: Commit | None
    evaluated_on: EvaluatedOn
    gates: dict[str, Gate]
    stop_rule: StopRule | None
    training: TrainingStatus | None
    dp: DPStatus
    removal: NotRequired[Removal]


# audit.json.


class SameDistribution(TypedDict):
    """Check that members and non-members are drawn alike: AUC of a model-free classifier."""

    auc: float
    ci95: Interval
    state: NotRequired[str]
    alike_below: NotRequired[float]
    ok: bool


class MembershipData(TypedDict):
    """Rows of a membership audit."""

    members: int
    non_members: int
    same_distribution: SameDistribution


class TruePositiveRate(TypedDict):
    """TPR at one FPR; None where there are too few non-members."""

    value: float | None
    ci95: Interval | None


class RocCurve(TypedDict):
    """Points of a ROC curve."""

    fpr: list[float]
    tpr: list[float]


class AttackFigures(TypedDict):
    """Figures of one membership attack; keys of `tpr_at_fpr` are FPRs such as `0.05`."""

    members: int
    non_members: int
    auc: float
    auc_ci95: Interval
    advantage: float
    advantage_ci95: Interval
    tpr_at_fpr: dict[str, TruePositiveRate]
    # Left out of some files in docs/results, for their size.
    roc: NotRequired[RocCurve]


class StrongestAttack(AttackFigures):
    """The attack chosen on the choosing half."""

    target: str
    attack: str


class ReferenceRun(StrongestAttack):
    """The strongest attack on an overfitted reference run, which shows the attacks' power."""

    run_dir: str
    data: NotRequired[MembershipData]


class Membership(TypedDict):
    """`membership` of audit.json: attacks by target, and the verdict on their figures."""

    data: MembershipData
    power: ReferenceRun | None
    business: dict[str, AttackFigures]
    features: dict[str, AttackFigures]
    release: dict[str, AttackFigures]
    strongest: StrongestAttack
    verdict: NotRequired[str]
    verdict_reason: NotRequired[str]


class ImageQuality(TypedDict):
    """Means over pictures."""

    psnr_db: float
    ssim: float


class InversionFigures(ImageQuality):
    """Quality of the pictures that an attacker's decoder restores from features."""

    mean_image: ImageQuality
    images: int
    attacker_images: int
    chance: float
    retrieval: str
    retrieval_queries: int
    retrieval_rank1: float
    retrieval_rank1_ci95: Interval
    retrieval_of_originals: float


class Inversion(InversionFigures):
    """`inversion` of audit.json; `attacker_people` is "other", "same" or "unknown"."""

    attacker_people: str


class SingleStepAudit(TypedDict):
    """One private update, repeated with a canary and without."""

    mu_lower: float
    mu_claimed: float
    epsilon_lower: float
    epsilon_claimed: float
    max_detectable: float
    true_positive_rate: float
    false_positive_rate: float
    runs: int
    contradicted: bool


class DPAudit(TypedDict):
    """`dp_audit` of audit.json: canaries against the claimed epsilon; None where not measured."""

    verdict: str
    text: str
    claimed: float | None
    epsilon_lower: float | None
    max_detectable: float | None
    half_noise: float | None
    notices_half_noise: bool | None
    single_step: SingleStepAudit | None
    confidence: float
    delta: float | None
    noise: NotRequired[str | None]
    guesses: int
    correct: int
    canaries: int
    updates: int
    updates_claimed: int


class Omission(TypedDict):
    """A part that is missing from an audit, or does not count, and the reason."""

    what: str
    why: str


class Audit(TypedDict):
    """audit.json; of an exported model `weights` and `seed` are None."""

    schema_version: int
    setting: str
    run_dir: str
    weights: NotRequired[str | None]
    seed: int | None
    config: dict[str, dict[str, Any]]
    versions: dict[str, str | None]
    hardware: Hardware
    commit: Commit | None
    membership: Membership
    attributes: ProbeResults | None
    inversion: Inversion | None
    dp_audit: DPAudit | None
    contradictions: list[str]
    contradictions_withheld: NotRequired[list[Omission]]
    not_done: list[Omission]


def read_results(path: str | os.PathLike[str]) -> Results:
    """Reads a results.json.

    Returns:
        Its content. `dp` is void where an earlier version's noise invalidates its epsilon
        (`noise_record.checked_dp`).

    Raises:
        RunError: the file is missing, damaged, or of an unknown version.
    """
    results = _read(path, RESULTS_VERSION, "evaluate")
    if isinstance(results.get("dp"), dict):
        results["dp"] = checked_dp(results["dp"])
    return cast(Results, results)


def read_audit(path: str | os.PathLike[str]) -> Audit | None:
    """Reads an audit.json; returns None where there is no such file.

    Returns:
        Its content, without a claim that an earlier version's noise invalidates
        (`noise_record.checked_audit`).

    Raises:
        RunError: the file is damaged or of an unknown version.
    """
    if not Path(path).exists():
        return None
    return cast(Audit, checked_audit(_read(path, AUDIT_VERSION, "audit")))


def write_results(path: str | os.PathLike[str], results: Results) -> None:
    """Writes a results.json atomically.

    Raises:
        RunError: the file cannot be written.
        ValueError: a figure is NaN or infinite.
    """
    write_json(path, results)


def write_audit(path: str | os.PathLike[str], audit: Audit | Mapping[str, Any]) -> None:
    """Writes an audit.json, or the finished parts of one, atomically.

    Raises:
        RunError: the file cannot be written.
        ValueError: a figure is NaN or infinite.
    """
    write_json(path, audit)


def current_name(attacker: str) -> str:
    """Returns the name of an attacker by its present family: `soft_raw` -> `softmax_pool_cnn_raw`.

    Args:
        attacker: a name, with or without `<task>/` before and `_x<times>` after it.
    """
    network, slash, name = attacker.rpartition("/")
    family, _, form = name.partition("_")
    return (
        f"{network}{slash}{FORMER_FAMILIES[family]}_{form}"
        if family in FORMER_FAMILIES
        else attacker
    )


def former_name(attacker: str) -> str:
    """Reverses `current_name` for a name without a task."""
    for former, family in FORMER_FAMILIES.items():
        if attacker.startswith(f"{family}_"):
            return former + attacker.removeprefix(family)
    return attacker


def _read(path: str | os.PathLike[str], version: int, command: str) -> dict[str, Any]:
    content = read_json(path)
    stored = content.get("schema_version") if isinstance(content, dict) else None
    if stored != version:
        raise RunError(
            f"{path}: schema_version is {stored}, expected {version}; {command} the run again"
        )
    return {name: _with_current_names(part) for name, part in content.items()}


def _with_current_names(part: Any) -> Any:
    """Returns a part of a file with attackers named by their present families."""
    if isinstance(part, list):
        return [_with_current_names(item) for item in part]
    if not isinstance(part, dict):
        return part
    result = {}
    for key, value in part.items():
        if key == "attackers" and isinstance(value, dict):
            value = {current_name(name): figures for name, figures in value.items()}
        elif key in ("name", "attacker") and isinstance(value, str):
            value = current_name(value)
        result[key] = _with_current_names(value)
    return result
