"""The likelihood-ratio attack: is a row's logit like that of models which saw it?

Carlini et al. (2022), "Membership Inference Attacks From First Principles", algorithm 1 (online)
and section V.C (offline).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

Array = np.ndarray[Any, Any]
# With fewer shadows on a side a variance of a row's own is mostly noise (section VI.C).
FEWEST_FOR_OWN_VARIANCE = 32
_LEAST_DEVIATION = 1e-6


def offline(observed: Array, shadows: Array, inside: Array) -> Array:
    """How far a row's logit lies above those of models that did not see it, in deviations.

    The paper's score is `Pr[Z <= observed]` for the Gaussian of the models without the row; this is
    the argument of that probability, which orders rows alike and does not round to 1. Several tasks
    count as independent: their deviations are added and divided by the root of their number.

    Args:
        observed: `[N, T]` float, scaled logits of the attacked model on N rows, T tasks; NaN
            without a label, there and in the shadows.
        shadows: `[S, N, T]` float, those of S shadow models.
        inside: `[S, N]` bool, whether a shadow was trained on the row.

    Returns:
        `[N]` float64, larger means member; NaN for a row that every shadow saw, or without a label.
    """
    mean, deviation = _gaussians(shadows, ~inside)
    return np.asarray(((observed - mean) / deviation).sum(axis=1) / np.sqrt(observed.shape[1]))


def online(observed: Array, shadows: Array, inside: Array) -> Array:
    """Log of the likelihood of a row's logits with the row over that without it.

    Args:
        observed: see `offline`.
        shadows: see `offline`.
        inside: see `offline`.

    Returns:
        `[N]` float64, larger means member; NaN for a row that all shadows saw, or none, or without
        a label.
    """
    parts = []
    for seen in (inside, ~inside):
        mean, deviation = _gaussians(shadows, seen)
        parts.append(norm.logpdf(observed, mean, deviation).sum(axis=1))
    return np.asarray(parts[0] - parts[1])


def _gaussians(shadows: Array, used: Array) -> tuple[Array, Array]:
    """Mean `[N, T]` of each row over the shadows that count, and deviation (`[N, T]` or `[T]`)."""
    known = used[:, :, None] & np.isfinite(shadows)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(known, (shadows - mean) ** 2, 0.0)
    # A row without a label has no Gaussian, and none to say on that of the others.
    labelled = np.isfinite(shadows).any(axis=0)
    if counts[labelled].min(initial=FEWEST_FOR_OWN_VARIANCE) >= FEWEST_FOR_OWN_VARIANCE:
        variance = squares.sum(axis=0) / np.maximum(counts - 1, 1)
    else:
        # One variance for all rows; a row with k shadows has k - 1 degrees of freedom.
        freedom = np.maximum(counts - 1, 0).sum(axis=0)
        variance = squares.sum(axis=(0, 1)) / np.maximum(freedom, 1)
    return mean, np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
