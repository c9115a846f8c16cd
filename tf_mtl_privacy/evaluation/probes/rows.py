"""Which rows attackers learn from, choose by and are tested on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.synthetic_source import attacker_faces
from tf_mtl_privacy.evaluation.probes.settings import Setting

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
    dataset: Dataset, data: DataConfig, test: Array, setting: Setting, seed: int
) -> AttackRows | str:
    """Rows that no encoder was trained on, or why there are none.

    Synthetic faces: as many as the setting asks for, of the stream 'attacker', with the data's own
    seed, shift and correlation. Other data: its validation rows, three quarters to learn from.

    Args:
        dataset: the data that is evaluated.
        data: what it was opened with.
        test: `[T]` int64 rows of it to be tested on.
        setting: how many rows.
        seed: of the choice among validation rows.
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
    rows = _known(dataset, dataset.rows["validation"])
    rows = np.random.default_rng(seed).permutation(rows)
    count = 3 * len(rows) // 4
    if not 0 < count < len(rows):
        return "there are too few validation rows with a private label"
    learned = np.sort(rows[:count][: setting.rows])
    return AttackRows(
        _labelled(dataset, learned), _labelled(dataset, np.sort(rows[count:])), tested
    )


def own_rows(dataset: Dataset, test: Array, setting: Setting, seed: int) -> AttackRows | str:
    """The run's own training rows to learn from, validation rows to choose by; or why not.

    Args:
        dataset: the data that is evaluated.
        test: `[T]` int64 rows of it to be tested on.
        setting: most rows to learn from.
        seed: of the choice among training rows.
    """
    parts = {name: _known(dataset, dataset.rows[name]) for name in ("train", "validation")}
    for name, rows in parts.items():
        if not len(rows):
            return f"there are no {name} rows with a private label"
    learned = np.random.default_rng(seed).permutation(parts["train"])[: setting.rows]
    return AttackRows(
        _labelled(dataset, np.sort(learned)),
        _labelled(dataset, parts["validation"]),
        _labelled(dataset, test),
    )


def _known(dataset: Dataset, rows: Array) -> Array:
    return rows[dataset.labels_of(rows).private >= 0]


def _labelled(dataset: Dataset, rows: Array) -> Labelled:
    known = _known(dataset, rows)
    return Labelled(dataset.store.images(known), dataset.labels_of(known).private)
