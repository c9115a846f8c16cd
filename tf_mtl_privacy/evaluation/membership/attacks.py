"""The attacks on each target that need nothing but what is given away.

Membership scores of single rows from what a classifier says; a larger score means a member.

Rows without a label (-1) get NaN from every score that needs one: they are not attacked by it. Any
number would put them above or below the others, and whether a label is missing is no memory. All
are computed in float64 from logits, without a probability that rounds to 0 or 1.

The attack is chosen on one half of members and non-members and reported on the other.

Attackers that learn who is a member: scikit-learn's classifiers on whatever is given away.
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
from tf_mtl_privacy.evaluation.membership.outputs import Outputs
from tf_mtl_privacy.evaluation.membership.roc import best_threshold, figures, tpr_at

Array = np.ndarray[Any, Any]


def loss(logits: Array, labels: Array) -> Array:
    """`log p_y`, the negative cross-entropy: `[N]` float64, at most 0 (Yeom et al. 2018).

    Args:
        logits: `[N, K]` float; log-probabilities do as well.
        labels: `[N]` int in [-1, K).
    """
    return _of_label(log_softmax(logits.astype(np.float64), axis=1), labels)


def entropy(logits: Array, labels: Array) -> Array:
    """`sum_k p_k log p_k`, the negative entropy: `[N]` float64 in [-log K, 0] (Shokri et al. 2017).

    Needs no labels; takes them so that all scores are called alike.
    """
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return np.asarray((np.exp(log_p) * log_p).sum(axis=1))


def modified_entropy(logits: Array, labels: Array) -> Array:
    """`(1 - p_y) log p_y + sum_{k != y} p_k log(1 - p_k)`: `[N]` float64, at most 0.

    The negative of Song and Mittal (2021), "Systematic Evaluation of Privacy Risks of Machine
    Learning Models", equation 8: unlike the entropy it is large for a confident wrong answer.
    """
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    log_rest = _log_others(log_p)
    terms = np.exp(log_p) * log_rest
    right = np.exp(log_rest) * log_p
    return _of_label(right - terms, labels) + terms.sum(axis=1)


def margin(logits: Array, labels: Array) -> Array:
    """`z_y - max_{k != y} z_k`: `[N]` float64; negative where the answer is wrong."""
    values = logits.astype(np.float64)
    highest = np.stack([np.delete(values, k, axis=1).max(axis=1) for k in _classes(values)], axis=1)
    return _of_label(values - highest, labels)


def scaled_logit(logits: Array, labels: Array) -> Array:
    """`log(p_y / (1 - p_y))`: `[N]` float64; near a Gaussian over trainings.

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
    """The sum of a score over tasks: `[N]` float64, NaN where a label that it needs is missing."""
    return np.asarray(sum(score(logits[task], labels[task]) for task in logits))


def scaled_logits(logits: Mapping[str, Array], labels: Mapping[str, Array]) -> Array:
    """`scaled_logit` of every task side by side: `[N, tasks]` float64, NaN without a label."""
    return np.stack([scaled_logit(logits[task], labels[task]) for task in logits], axis=1)


def _classes(values: Array) -> range:
    return range(values.shape[1])


def _log_others(values: Array) -> Array:
    """`[N, K]`: log of the sum of `exp` over all classes but the column's."""
    parts = [logsumexp(np.delete(values, k, axis=1), axis=1) for k in _classes(values)]
    return np.stack(parts, axis=1)


def _of_label(values: Array, labels: Array) -> Array:
    known = np.maximum(labels, 0)[:, None]
    return np.where(labels < 0, np.nan, np.take_along_axis(values, known, axis=1)[:, 0])


def filled(columns: Array) -> Array:
    """`[N, d]` with each column's mean for its NaN, for who must read a number; 0 without any.

    It does not hide *that* something is missing: whether this tells members from others is what
    `same_distribution` looks at.
    """
    known = np.isfinite(columns)
    sums = np.where(known, columns, 0.0).sum(axis=0)
    return np.where(known, columns, sums / np.maximum(known.sum(axis=0), 1))


# What is chosen by: the figure that the paper gives.
CHOSEN_BY = 0.05
# Fewer scored rows on a side of a half are nothing to report.
FEWEST = 4


class Split(NamedTuple):
    """Who is who, and which half is which.

    Attributes:
        member: `[N]` bool.
        choosing: `[N]` bool, rows that attacks learn from and are chosen by; the others report.
    """

    member: Array
    choosing: Array


def halves(members: int, non_members: int, seed: int) -> Split:
    """Members first, then non-members; a random half of each is for choosing.

    Raises:
        ValueError: fewer than four on a side.
    """
    if min(members, non_members) < 4:
        raise ValueError(f"expected 4 members and 4 non-members, got {members} and {non_members}")
    draw = np.random.default_rng(seed)
    parts = [draw.permutation(count) < count // 2 for count in (members, non_members)]
    member = np.repeat([True, False], [members, non_members])
    return Split(member, np.concatenate(parts))


def reported(scores: Array, split: Split) -> dict[str, Any]:
    """`roc.figures` on the reporting half; the advantage's threshold is of the choosing half.

    Args:
        scores: `[N]` float, larger means member; NaN where a row was not attacked.
        split: see `Split`.
    """
    threshold = best_threshold(*sides(scores, split, split.choosing))
    return figures(*sides(scores, split, ~split.choosing), threshold)


def strongest(scores: Mapping[tuple[str, str], Array], split: Split) -> tuple[str, str]:
    """(target, attack) that surely does best on the choosing half; the first of equals.

    By the lower end of the interval of the TPR at 5 % FPR, then by the TPR: the largest of many
    values is often that of the attack with the fewest rows.

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
    """(least TPR, most FPR) at one threshold for each rate, all together with 95 % confidence.

    The threshold has about that FPR on the choosing half. It is fixed for the reporting half, where
    hits and false alarms are binomial counts, so that the one-sided bounds are Clopper and
    Pearson's (1934), which hold for any number of rows; Bonferroni over both sides, rates, tests.

    Args:
        scores: `[N]`, as for `reported`.
        split: see `Split`.
        rates: the FPRs.
        tests: how many such lists are looked at.
    """
    others = sides(scores, split, split.choosing)[1]
    members, non_members = sides(scores, split, ~split.choosing)
    error = 0.05 / (2 * len(rates) * tests)
    found = []
    for rate in rates:
        threshold = float(np.quantile(others, 1 - rate, method="higher"))
        hits, alarms = int((members > threshold).sum()), int((non_members > threshold).sum())
        least = clopper_pearson(hits, len(members), 1 - 2 * error)[0]
        most = clopper_pearson(alarms, len(non_members), 1 - 2 * error)[1]
        found.append((least, most))
    return found


def attackable(scores: Mapping[tuple[str, str], Array], split: Split) -> dict[Any, Array]:
    """The attacks that score `FEWEST` rows or more of each side in each half.

    Args:
        scores: (target, attack) -> `[N]` scores, NaN where a row was not attacked.
        split: see `Split`.
    """
    halved = (split.choosing, ~split.choosing)
    return {
        name: values
        for name, values in scores.items()
        if min(len(side) for half in halved for side in sides(values, split, half)) >= FEWEST
    }


def sides(scores: Array, split: Split, half: Array) -> tuple[Array, Array]:
    """Scores of members and of non-members in a half (`[N]` bool), without those that are NaN."""
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
    learner: str, rows: Array, split: Split, seed: int, *, pressed: int | None = None
) -> Array:
    """`[N]` float64 probabilities of being a member.

    On the choosing half each row is scored by a model that learned from the others (3 folds), so
    that a choice by these scores is not fooled by a learner that remembers; the reporting half by a
    model that learned from the whole choosing half. More than 64 pressed columns are whitened
    principal components first.

    Args:
        learner: a name of `LEARNERS`.
        rows: `[N, d]` float, what the attacker sees of each row.
        split: which rows are whose.
        seed: of the folds and the learner's own draws.
        pressed: how many of the last columns may become components; by default all.
    """
    pressed = rows.shape[1] if pressed is None else pressed
    steps: list[Any] = [StandardScaler()]
    # As many rows as a fold learns from, less one, bound the components too.
    most = min(_COMPONENTS, int(split.choosing.sum()) * (_FOLDS - 1) // _FOLDS - 1)
    if pressed > most:
        components = PCA(most, whiten=True, random_state=seed)
        last = slice(rows.shape[1] - pressed, None)
        steps.append(ColumnTransformer([("few", components, last)], remainder="passthrough"))
    model = make_pipeline(*steps, LEARNERS[learner](seed))
    known, truth = rows[split.choosing], split.member[split.choosing]
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(rows))
    # One thread: for so few rows several are no faster, and on cores that are shared with other
    # work they wait for each other, hundreds of times longer than they compute.
    with threadpool_limits(1), warnings.catch_warnings():
        # Stopping early only makes an attacker weaker, and the strongest is reported.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cross_val_predict(model, known, truth, cv=folds, method="predict_proba")
        scores[split.choosing] = found[:, 1]
        model.fit(known, truth)
    scores[~split.choosing] = model.predict_proba(rows[~split.choosing])[:, 1]
    return scores


TARGETS = ("business", "features", "release")
# Which of `Outputs.further` can be had from features alone, given a restorer to go back through.
_OF_FEATURES = ("reencoding_distance",)
_OF_RELEASE = ("restoration_error", "discriminator_loss")


def attack_scores(
    outputs: Outputs,
    split: Split,
    learners: Sequence[str],
    seed: int,
    done: Callable[[str], None] = lambda name: None,
) -> dict[tuple[str, str], Array]:
    """(target, attack) -> `[N]` scores, larger means member; NaN for a row that it cannot attack.

    - business: the thresholds of `scores.py`, summed over tasks, and learners on logits and these.
    - features: the distance to the features of what is restored from them, and learners, who ask
      the released classifier about them and so read all of `business`, too.
    - release: restoration error and discriminator, and learners on all of it together.

    Attacks on `business` are attacks on the others as well, and are not repeated there.

    Args:
        outputs: of members, then non-members.
        split: who is who, and which half learners learn from.
        learners: names of `learned.LEARNERS`.
        seed: of the learners.
        done: called with a name when an attack has finished, `count_attacks` times.
    """
    found: dict[tuple[str, str], Array] = {}
    for name, score in THRESHOLDS.items():
        found["business", name] = over_tasks(score, outputs.logits, outputs.labels)
    for target, names in (("features", _OF_FEATURES), ("release", _OF_RELEASE)):
        for name in names:
            if name in outputs.further:
                found[target, name] = outputs.further[name].astype(np.float64)
    for target, read in _learned_from(outputs).items():
        for learner in learners:
            if read.given:
                rows = np.concatenate([read.kept, read.pressed], axis=1)
                found[target, learner] = learned_scores(
                    learner, rows, split, seed, pressed=read.pressed.shape[1]
                )
            done(f"{target}/{learner}")
    return found


def count_attacks(learners: Sequence[str]) -> int:
    """How often `done` is called."""
    return len(TARGETS) * len(learners)


class _Read(NamedTuple):
    """What learners read of each row.

    Attributes:
        kept: `[N, d]` float, columns that they read as they are.
        pressed: `[N, p]` float, many columns that are brought down to a few components first; in
            one with them the few that matter most would be lost.
        given: whether this release gives any of what is the target's own.
    """

    kept: Array
    pressed: Array
    given: bool


def _learned_from(outputs: Outputs) -> dict[str, _Read]:
    """Target -> what learners read."""
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
