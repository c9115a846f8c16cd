"""Scikit-learn's handwritten digits, shared by the examples."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1500


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns images `[n, 64]` in [0, 1] and labels, of the training set and of the test set."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]
