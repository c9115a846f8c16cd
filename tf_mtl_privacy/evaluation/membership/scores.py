"""Membership scores of single rows from what a classifier says; a larger score means a member.

Rows without a label (-1) get NaN from every score that needs one: they are not attacked by it. Any
number would put them above or below the others, and whether a label is missing is no memory. All
are computed in float64 from logits, without a probability that rounds to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

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
