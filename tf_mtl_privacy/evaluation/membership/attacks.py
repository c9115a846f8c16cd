"""Membership attacks on the outputs of a release: thresholds and learned attacks.

All scores are larger for likelier members. Rows without a label (-1) get NaN from scores that need
one and are not attacked by them; any number would rank them by the missing label, which is no sign
of membership. Scores are computed in float64 from logits, so that no probability rounds to 0 or 1.
The strongest attack is chosen on one half of members and non-members and reported on the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tf_mtl_privacy.evaluation.intervals import clopper_pearson
from tf_mtl_privacy.evaluation.membership.outputs import ReleasedOutputs
from tf_mtl_privacy.evaluation.membership.roc import best_threshold, figures, tpr_at
from tf_mtl_privacy.evaluation.schema import AttackFigures
from tf_mtl_privacy.types import Array


def loss(logits: Array, labels: Array) -> Array:
    """Returns `log p_y`, the negative cross-entropy: `[N]` float64, <= 0 (Yeom et al. 2018).

    Args:
        logits: `[N, K]` float, or log-probabilities.
        labels: `[N]` int in [-1, K).
    """
    return _of_label(log_softmax(logits.astype(np.float64), axis=1), labels)


def entropy(logits: Array, labels: Array) -> Array:
    """Returns `sum_k p_k log p_k`, the negative entropy: `[N]` float64 in [-log K, 0].

    Shokri et al. (2017). The labels are not used; all scores have the same arguments.
    """
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return np.asarray((np.exp(log_p) * log_p).sum(axis=1))


def modified_entropy(logits: Array, labels: Array) -> Array:
    """Returns `(1 - p_y) log p_y + sum_{k != y} p_k log(1 - p_k)`: `[N]` float64, <= 0.

    The negative of Song and Mittal (2021), "Systematic Evaluation of Privacy Risks of Machine
    Learning Models", equation 8. Unlike the entropy it penalises a confident wrong prediction.
    """
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    log_rest = _log_others(log_p)
    terms = np.exp(log_p) * log_rest
    right = np.exp(log_rest) * log_p
    return _of_label(right - terms, labels) + terms.sum(axis=1)


def margin(logits: Array, labels: Array) -> Array:
    """Returns `z_y - max_{k != y} z_k`: `[N]` float64; negative where the prediction is wrong."""
    values = logits.astype(np.float64)
    highest = np.stack([np.delete(values, k, axis=1).max(axis=1) for k in _classes(values)], axis=1)
    return _of_label(values - highest, labels)


def scaled_logit(logits: Array, labels: Array) -> Array:
    """Returns `log(p_y / (1 - p_y))`: `[N]` float64, nearly Gaussian over training runs.

    Carlini et al. (2022), "Membership Inference Attacks From First Principles", section IV.C, in
    the form that does not round: `z_y - log sum_{k != y} exp z_k`.
    """
    values = logits.astype(np.float64)
    return _of_label(values - _log_others(values), labels)


THRESHOLDS: dict[str, Callable[[Array, Array], Array]] = {
    "loss": loss,
    "entropy": entropy,
    "modified_entropy": modified_entropy,
    "margin": margin,
}


def over_tasks(
    score: Callable[[Array, Array], Array],
    logits: Mapping[str, Array],
    labels: Mapping[str, Array],
) -> Array:
    """Sums a score over tasks: `[N]` float64, NaN where a label that it needs is missing."""
    return np.asarray(sum(score(logits[task], labels[task]) for task in logits))


def scaled_logits(logits: Mapping[str, Array], labels: Mapping[str, Array]) -> Array:
    """Returns `scaled_logit` of every task: `[N, tasks]` float64, NaN without a label."""
    return np.stack([scaled_logit(logits[task], labels[task]) for task in logits], axis=1)


def _classes(values: Array) -> range:
    return range(values.shape[1])


def _log_others(values: Array) -> Array:
    """Returns the log of the sum of `exp` over all classes but the column's, `[N, K]`."""
    parts = [logsumexp(np.delete(values, k, axis=1), axis=1) for k in _classes(values)]
    return np.stack(parts, axis=1)


def _of_label(values: Array, labels: Array) -> Array:
    known = np.maximum(labels, 0)[:, None]
    return np.where(labels < 0, np.nan, np.take_along_axis(values, known, axis=1)[:, 0])


def filled(columns: Array) -> Array:
    """Replaces each NaN by the mean of its column, `[N, d]`; by 0 in a column without any number.

    Missing labels stay visible to learned attacks; `same_distribution` checks if they differ
    between members and non-members.
    """
    known = np.isfinite(columns)
    sums = np.where(known, columns, 0.0).sum(axis=0)
    return np.where(known, columns, sums / np.maximum(known.sum(axis=0), 1))


# Attacks are chosen by their TPR at this FPR.
CHOSEN_BY = 0.05
# Smallest number of scored rows of each side in each half.
MIN_SCORED = 4


class Split(NamedTuple):
    """Members, and the half for choosing.

    Attributes:
        member: `[N]` bool.
        choosing: `[N]` bool, rows for training and choosing attacks; the others are for reporting.
    """

    member: Array
    choosing: Array


def halves(members: int, non_members: int, seed: int) -> Split:
    """Splits members, then non-members; a random half of each is for choosing.

    Raises:
        ValueError: fewer than four on a side.
    """
    if min(members, non_members) < 4:
        raise ValueError(f"expected 4 members and 4 non-members, got {members} and {non_members}")
    draw = np.random.default_rng(seed)
    parts = [draw.permutation(count) < count // 2 for count in (members, non_members)]
    member = np.repeat([True, False], [members, non_members])
    return Split(member, np.concatenate(parts))


def reported(scores: Array, split: Split) -> AttackFigures:
    """Returns `roc.figures` on the reporting half, with a threshold from the choosing half.

    Args:
        scores: `[N]` float, larger means member; NaN for rows not attacked.
        split: see `Split`.
    """
    threshold = best_threshold(*sides(scores, split, split.choosing))
    return figures(*sides(scores, split, ~split.choosing), threshold)


def strongest_attack(scores: Mapping[tuple[str, str], Array], split: Split) -> tuple[str, str]:
    """Returns the (target, attack) with the best lower bound on the choosing half.

    Attacks are compared by the lower end of the interval of the TPR at 5 % FPR, then by the TPR:
    the largest TPR often belongs to the attack with the fewest rows.

    Args:
        scores: (target, attack) -> `[N]` scores, as for `reported`.
        split: see `Split`.
    """

    def chosen_by(name: tuple[str, str]) -> tuple[float, float]:
        value, (low, _) = tpr_at(*sides(scores[name], split, split.choosing), CHOSEN_BY)
        return low, value

    return max(scores, key=chosen_by)


def operating_points(
    scores: Array, split: Split, rates: Sequence[float], tests: int = 1
) -> list[tuple[float, float]]:
    """Returns (lower bound of TPR, upper bound of FPR) for each rate, jointly at 95 % confidence.

    The threshold has about that FPR on the choosing half. On the reporting half it is fixed, so
    true and false positives are binomial counts, with Clopper and Pearson's (1934) exact one-sided
    bounds; Bonferroni over both sides, all rates and all tests.

    Args:
        scores: `[N]`, as for `reported`.
        split: see `Split`.
        rates: the FPRs.
        tests: number of such lists that are compared with a claim.
    """
    others = sides(scores, split, split.choosing)[1]
    members, non_members = sides(scores, split, ~split.choosing)
    error = 0.05 / (2 * len(rates) * tests)
    points = []
    for rate in rates:
        threshold = float(np.quantile(others, 1 - rate, method="higher"))
        hits, alarms = int((members > threshold).sum()), int((non_members > threshold).sum())
        min_tpr = clopper_pearson(hits, len(members), 1 - 2 * error)[0]
        max_fpr = clopper_pearson(alarms, len(non_members), 1 - 2 * error)[1]
        points.append((min_tpr, max_fpr))
    return points


def attackable(scores: Mapping[tuple[str, str], Array], split: Split) -> dict[Any, Array]:
    """Keeps the attacks that score at least `MIN_SCORED` rows of each side in each half.

    Args:
        scores: (target, attack) -> `[N]` scores, NaN for rows not attacked.
        split: see `Split`.
    """
    halved = (split.choosing, ~split.choosing)
    return {
        name: values
        for name, values in scores.items()
        if min(len(side) for half in halved for side in sides(values, split, half)) >= MIN_SCORED
    }


def sides(scores: Array, split: Split, half: Array) -> tuple[Array, Array]:
    """Returns the scores of members and of non-members in a half (`[N]` bool), without NaN."""
    used = half & ~np.isnan(scores)
    return scores[used & split.member], scores[used & ~split.member]


_COMPONENTS, _FOLDS = 64, 3


def _logistic(seed: int) -> ClassifierMixin:
    return LogisticRegression(C=0.1, max_iter=200)


def _trees(seed: int) -> ClassifierMixin:
    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed)


def _network(seed: int) -> ClassifierMixin:
    return MLPClassifier((64,), alpha=1e-3, max_iter=60, early_stopping=True, random_state=seed)


LEARNERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "logistic": _logistic,
    "trees": _trees,
    "mlp": _network,
}


def learned_scores(
    learner: str, rows: Array, split: Split, seed: int, *, reduced: int | None = None
) -> Array:
    """Returns the probabilities of being a member, `[N]` float64.

    Rows of the choosing half are scored by cross-validation (3 folds), so that overfitted learners
    are not chosen for their fit; the reporting half is scored by a model trained on the whole
    choosing half. More than 64 columns to be reduced become whitened principal components.

    Args:
        learner: a name of `LEARNERS`.
        rows: `[N, d]` float, the attacker's view of each row.
        split: see `Split`.
        seed: of the folds and the learner's own draws.
        reduced: number of the last columns that may become components; by default all.
    """
    reduced = rows.shape[1] if reduced is None else reduced
    steps: list[Any] = [StandardScaler()]
    # Components are also bounded by the training rows of a fold, less one.
    count = min(_COMPONENTS, int(split.choosing.sum()) * (_FOLDS - 1) // _FOLDS - 1)
    if reduced > count:
        components = PCA(count, whiten=True, random_state=seed)
        last = slice(rows.shape[1] - reduced, None)
        steps.append(ColumnTransformer([("few", components, last)], remainder="passthrough"))
    model = make_pipeline(*steps, LEARNERS[learner](seed))
    known, truth = rows[split.choosing], split.member[split.choosing]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(rows))
    # Several threads are no faster for so few rows, and on shared cores far slower.
    with threadpool_limits(1), warnings.catch_warnings():
        # A learner that has not converged is a weaker attacker; the strongest is reported.
        warnings.simplefilter("ignore", ConvergenceWarning)
        folded = cross_val_predict(model, known, truth, cv=folds, method="predict_proba")
        scores[split.choosing] = folded[:, 1]
        model.fit(known, truth)
    scores[~split.choosing] = model.predict_proba(rows[~split.choosing])[:, 1]
    return scores


TARGETS = ("business", "features", "release")
# The parts of `ReleasedOutputs.further` that features alone give, through the restorer.
_OF_FEATURES = ("reencoding_distance",)
_OF_RELEASE = ("restoration_error", "discriminator_loss")


def attack_scores(
    outputs: ReleasedOutputs,
    split: Split,
    learners: Sequence[str],
    seed: int,
    done: Callable[[str], None] = lambda name: None,
) -> dict[tuple[str, str], Array]:
    """Returns (target, attack) -> `[N]` scores, larger means member; NaN for rows not attacked.

    - business: `THRESHOLDS`, summed over tasks, and learners on logits and these scores.
    - features: the distance to the features of the restored picture, and learners, which also read
      all of `business`, because the classifier is released.
    - release: restoration error and discriminator, and learners on everything together.

    Attacks on `business` are also attacks on the other targets and are not repeated there.

    Args:
        outputs: of members, then non-members.
        split: see `Split`.
        learners: names of `LEARNERS`.
        seed: of the learners.
        done: called with a name when a learned attack has finished, `count_attacks` times.
    """
    scores: dict[tuple[str, str], Array] = {}
    for name, score in THRESHOLDS.items():
        scores["business", name] = over_tasks(score, outputs.logits, outputs.labels)
    for target, names in (("features", _OF_FEATURES), ("release", _OF_RELEASE)):
        for name in names:
            if name in outputs.further:
                scores[target, name] = outputs.further[name].astype(np.float64)
    for target, read in _learned_from(outputs).items():
        for learner in learners:
            if read.given:
                rows = np.concatenate([read.columns, read.reduced], axis=1)
                scores[target, learner] = learned_scores(
                    learner, rows, split, seed, reduced=read.reduced.shape[1]
                )
            done(f"{target}/{learner}")
    return scores


def count_attacks(learners: Sequence[str]) -> int:
    """Returns the number of calls of `done`."""
    return len(TARGETS) * len(learners)


class _Read(NamedTuple):
    """Input of the learned attacks on a target.

    Attributes:
        columns: `[N, d]` float, read without reduction.
        reduced: `[N, p]` float, many columns that are reduced to a few components first. Reduced
            together with `columns`, the most informative ones would be lost.
        given: if the release gives any of the target's own outputs.
    """

    columns: Array
    reduced: Array
    given: bool


def _learned_from(outputs: ReleasedOutputs) -> dict[str, _Read]:
    """Returns the input of the learned attacks by target."""
    answers = [scaled_logits(outputs.logits, outputs.labels)]
    for task, logits in outputs.logits.items():
        answers.append(logits)
        answers += [score(logits, outputs.labels[task])[:, None] for score in THRESHOLDS.values()]
    business = filled(np.concatenate(answers, axis=1))
    distance, further = (
        [outputs.further[n][:, None] for n in names if n in outputs.further]
        for names in (_OF_FEATURES, _OF_RELEASE)
    )
    none = np.zeros((len(business), 0))
    features = np.concatenate([business, *distance], axis=1)
    release = filled(np.concatenate([features, *further, outputs.regions], axis=1))
    seen = outputs.features.shape[1] > 0
    return {
        "business": _Read(business, none, business.shape[1] > 0),
        "features": _Read(features, outputs.features, seen or bool(distance)),
        "release": _Read(release, outputs.features, release.shape[1] > 0 or seen),
    }
