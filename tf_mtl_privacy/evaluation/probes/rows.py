"""Rows that attackers learn from, choose by and are tested on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.evaluation.probes.budget import Setting

Array = np.ndarray[Any, Any]


class Labelled(NamedTuple):
    """Pictures `[N, S, S, 3]` uint8 with their private label `[N]` int32, all known."""

    images: Array
    labels: Array


class AttackRows(NamedTuple):
    """Rows to learn from, to choose by and to be tested on; no two share a picture."""

    train: Labelled
    validation: Labelled
    test: Labelled


def unseen_rows(
    dataset: Dataset,
    data: DataConfig,
    test: Array,
    setting: Setting,
    seed: int,
    *,
    is_own: bool = True,
) -> AttackRows | str:
    """Returns rows that no encoder was trained on, or the reason why there are none.

    Synthetic faces: as many as the setting asks for, of the stream 'attacker', with the data's own
    seed, shift and correlation. Other data: its validation rows, and its training rows where the
    run was trained on other data. A quarter of them, at most `setting.validation_rows`, are to
    choose by; the rest, at most `setting.rows`, to learn from.

    Args:
        dataset: the data that is evaluated.
        data: what it was opened with.
        test: `[T]` int64 rows of it to be tested on.
        setting: how many rows.
        seed: of the choice and the order of rows.
        is_own: whether the run was trained on this data.
    """
    tested = _labelled(dataset, test)
    if data.dataset == "synthetic_faces":
        whole = setting.rows + setting.validation_rows
        images, labels = attacker_faces(data, whole)
        known = np.flatnonzero(labels >= 0)
        drawn = Labelled(images[known], labels[known])
        return AttackRows(
            Labelled(*(part[: -setting.validation_rows] for part in drawn)),
            Labelled(*(part[-setting.validation_rows :] for part in drawn)),
            tested,
        )
    if data.effective_private_label == "identity":
        return "a person is learned from that person's training images"
    parts = ("validation",) if is_own else ("train", "validation")
    pool = np.concatenate([_known(dataset, dataset.rows[name]) for name in parts])
    rows = np.random.default_rng(seed).permutation(pool)
    chosen = min(-(-len(rows) // 4), setting.validation_rows)
    if not 0 < chosen < len(rows):
        return f"there are too few {' and '.join(parts)} rows with a private label"
    learned = rows[chosen:][: setting.rows]
    return AttackRows(_labelled(dataset, learned), _labelled(dataset, rows[:chosen]), tested)


def own_rows(dataset: Dataset, test: Array, setting: Setting, seed: int) -> AttackRows | str:
    """Returns the run's training rows to learn from and validation rows to choose by, or a reason.

    Args:
        dataset: the data that is evaluated.
        test: `[T]` int64 rows of it to be tested on.
        setting: most rows to learn from and to choose by.
        seed: of the choice and the order of rows.
    """
    counts = {"train": setting.rows, "validation": setting.validation_rows}
    rng, found = np.random.default_rng(seed), []
    for name, count in counts.items():
        rows = _known(dataset, dataset.rows[name])
        if not len(rows):
            return f"there are no {name} rows with a private label"
        # In random order, because some attackers learn from the first of them only.
        found.append(_labelled(dataset, rng.permutation(rows)[:count]))
    train, validation = found
    return AttackRows(train, validation, _labelled(dataset, test))


def _known(dataset: Dataset, rows: Array) -> Array:
    return rows[dataset.labels_of(rows).private >= 0]


def _labelled(dataset: Dataset, rows: Array) -> Labelled:
    known = _known(dataset, rows)
    return Labelled(dataset.store.images(known), dataset.labels_of(known).private)
