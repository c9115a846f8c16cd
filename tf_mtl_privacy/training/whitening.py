"""What makes the channels of features uncorrelated and equally large; from features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.discriminator import whitening_of
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.removal.noise import draws_apart
from tf_mtl_privacy.training.phase import encode_rows

Array = np.ndarray[Any, Any]
# Each row has some hundred cells, and there are some ten channels.
_MOST_ROWS = 1_000
# Directions with less variance than this share of the mean one stay smaller than the others.
_LEAST_SHARE = 1e-3


def fit_whitening(features: Array) -> tuple[Array, Array]:
    """Mean and matrix with which `(x - mean) @ matrix` has a covariance of nearly the identity.

    The matrix is the covariance's inverse square root, the whitening that moves features least
    (Kessy, Lewin and Strimmer 2018, section 3, "ZCA"): a little other features give a little
    other matrix.

    Args:
        features: `[n, h, w, c]` float; every cell of every row counts as one sample.

    Returns:
        `[c]` and `[c, c]`, float32.

    Raises:
        ValueError: fewer than two samples, or values that are not finite.
    """
    cells = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    if len(cells) < 2:
        raise ValueError(f"Expected at least two cells, got {len(cells)}")
    if not np.isfinite(cells).all():
        raise ValueError("Expected finite features")
    mean = cells.mean(axis=0)
    covariance = (cells - mean).T @ (cells - mean) / len(cells)
    variances, directions = np.linalg.eigh(covariance)
    # Features that do not vary at all are left at 0 whatever they are divided by.
    least = _LEAST_SHARE * variances.mean() or 1.0
    matrix = (directions / np.sqrt(np.maximum(variances, 0.0) + least)) @ directions.T
    return mean.astype(np.float32), matrix.astype(np.float32)


def set_whitening(
    discriminators: Sequence[keras.Model], encoder: keras.Model, dataset: Dataset
) -> None:
    """Fits the whitening of those discriminators that have one to what the encoder gives now.

    By validation rows, without their labels: from training rows the figures would carry one
    example into another one's gradient, which clipping each of them does not bound.
    """
    layers = [layer for layer in map(whitening_of, discriminators) if layer is not None]
    if not layers:
        return
    # The first ones may be of few people.
    order = np.random.default_rng(layer_seed(0, "whitening"))
    rows = np.sort(order.permutation(dataset.rows["validation"])[:_MOST_ROWS])
    with draws_apart(encoder):
        features = np.concatenate(list(encode_rows(encoder, dataset, rows)))
    found = fit_whitening(features)
    for layer in layers:
        layer.set_weights(found)
