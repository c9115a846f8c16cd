"""Which axis of colour says the private label, in closed form. No TensorFlow.

Source: the between-class scatter of Fisher's discriminant (Fisher 1936, "The Use of Multiple
Measurements in Taxonomic Problems"), of colours instead of whole pictures; that chance adds to it
is taken off. Taking the axis away is linear erasure as in LEACE (Belrose et al. 2023), restricted
to one direction that all pixels share.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import chi2

Array = np.ndarray[Any, Any]
# A place counts where so large a difference between classes has this chance without a label.
_CHANCE = 0.05
_FLOOR = 1e-9


def colour_axis(batches: Iterable[tuple[Array, Array]], classes: int) -> Array:
    """The axis along which the classes' mean pictures differ most.

    At each place p, with n_k pictures of class k and their mean m_k(p), the between-class scatter
    B_p = sum_k n_k (m_k - m)(m_k - m)^T has the mean (K - 1) W_p where colour says nothing of the
    class, W_p the covariance within classes. The axis is the leading eigenvector of
    sum_p (B_p - (K - 1) W_p) / tr W_p over the places where trace(W_p^-1 B_p), which then is about
    chi-squared with 3 (K - 1) degrees of freedom, is above its 95 % point; over all places where
    it is nowhere.

    Args:
        batches: pictures `[n, S, S, 3]` uint8 and classes `[n]` in [0, K), at least two of which
            occur and more pictures than classes.
        classes: K >= 2.

    Returns:
        `[3]` float32 of length 1, red, green, blue; of its two signs that in which the largest
        entry is positive.

    Raises:
        ValueError: too few pictures.
    """
    counts, sums, squares = _moments(batches, classes)
    total, known = counts.sum(), counts > 0
    if known.sum() < 2 or total <= known.sum():
        raise ValueError(f"Expected two classes and more pictures than classes, got {counts}")
    means = sums[known] / counts[known, None, None, None]
    between = _weighed(counts[known], means - sums.sum(0) / total)
    within = (squares - _weighed(counts[known], means)) / (total - known.sum())
    within += _FLOOR * np.eye(3)
    freedom = int(known.sum()) - 1
    scatter = (between - freedom * within) / np.trace(within, axis1=-2, axis2=-1)[..., None, None]
    evidence = np.trace(np.linalg.solve(within, between), axis1=-2, axis2=-1)
    places = evidence > chi2.ppf(1.0 - _CHANCE, 3 * freedom)
    scatter = scatter[places if places.any() else np.ones_like(places)].sum(0)
    axis = np.linalg.eigh(scatter)[1][:, -1]
    axis *= np.sign(axis[np.argmax(np.abs(axis))])
    return axis.astype(np.float32)


def _moments(batches: Iterable[tuple[Array, Array]], classes: int) -> tuple[Array, Array, Array]:
    """Pictures of each class `[K]`, their sum `[K, S, S, 3]`, all products `[S, S, 3, 3]`."""
    counts, sums, squares = np.zeros(classes), np.zeros(()), np.zeros(())
    for images, labels in batches:
        picture = images.astype(np.float32) / 255.0
        if not sums.ndim:
            sums = np.zeros((classes, *picture.shape[1:]))
        for number in np.unique(labels):
            sums[number] += picture[labels == number].sum(0)
        counts += np.bincount(labels, minlength=classes)
        squares = squares + np.einsum("nhwc,nhwd->hwcd", picture, picture)
    return counts, sums, squares


def _weighed(counts: Array, means: Array) -> Array:
    """`sum_k n_k m_k m_k^T` at each place."""
    return np.einsum("k,khwc,khwd->hwcd", counts, means, means)
