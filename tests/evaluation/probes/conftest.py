"""Small targets with a known answer, and budgets that take no time."""

import dataclasses

import numpy as np
import pytest

from tf_mtl_privacy.evaluation.probes.budget import FAST, THOROUGH
from tf_mtl_privacy.evaluation.probes.data import ProbeData

TINY = {
    "rows": 96,
    "image_rows": 64,
    "region_rows": 64,
    "validation_rows": 40,
    "dimensions": 16,
    "columns": 8,
    "steps": 20,
    "rounds": 3,
    "dense_epochs": 2,
    "epochs": 2,
    "image_epochs": 1,
    "image_batch_size": 32,
    "min_updates": 0,
    "width": 8,
    "image_width": 8,
}


def make_target(shape=(6, 6, 4), rows=(240, 120, 160), classes=3, leak=0.0, seed=0):
    """Normal noise of deviation 1; `leak` times a pattern of signs per class is added to it."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (classes, *shape))
    parts = []
    for count in rows:
        labels = rng.integers(0, classes, count).astype(np.int32)
        noise = rng.normal(size=(count, *shape))
        parts += [(noise + leak * signs[labels]).astype(np.float32), labels]
    return ProbeData(*parts, classes)


@pytest.fixture(scope="session")
def tiny_fast():
    return dataclasses.replace(FAST, **TINY)


@pytest.fixture(scope="session")
def tiny_thorough():
    return dataclasses.replace(THOROUGH, **TINY, restarts=2)
