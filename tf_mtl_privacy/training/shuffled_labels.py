"""Private labels that say nothing of anybody, to see what a discriminator contributes."""

from __future__ import annotations

import numpy as np

from tf_mtl_privacy.training.turns import order_seed


def shuffled_labels(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """A random label for each row, drawn once for the whole run.

    Of the true labels only whether there is one is looked at, so that the same rows have one.

    Args:
        labels: `[N]` int32, the class or -1.
        classes: K > 0; each is equally likely.
        seed: of the run, >= 0.

    Returns:
        `[N]` int32 in [0, K), -1 where `labels` is.
    """
    generator = np.random.default_rng(order_seed(seed, "shuffled labels"))
    drawn = generator.integers(0, classes, len(labels))
    return np.where(np.asarray(labels) >= 0, drawn, -1).astype(np.int32)
