"""Labelled faces that are drawn and of nobody: reading their private label tells nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset

_HELD_OUT_SHARE, _MOST_HELD_OUT = 10, 1_000


def public_faces(config: Config) -> Dataset:
    """Synthetic faces of the stream 'backbone', which no split of the run's own data has.

    Their train rows are learned from; validation rows are held out of the same stream. There is
    nothing else in it.

    Args:
        config: the run's; it has been checked that its data is synthetic and without identities.
    """
    data = dataclasses.replace(
        config.data,
        synthetic_stream="backbone",
        synthetic_shift="none",
        train_rows=config.removal.region_rows,
        validation_rows=1,
        test_rows=1,
    )
    whole = open_dataset(data)
    rows = whole.rows["train"]
    kept = held_out(len(rows))
    nothing = np.zeros(0, np.int64)
    split = {"train": rows[kept:], "validation": rows[:kept], "test": nothing}
    return dataclasses.replace(whole, rows=split)


def held_out(rows: int) -> int:
    """How many of so many public faces are not learned from."""
    return min(rows // _HELD_OUT_SHARE, _MOST_HELD_OUT)
