"""Members, and non-members that are drawn in the same way and that nothing was trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.sources.synthetic import fresh_faces
from tf_mtl_privacy.errors import UsageError

Array = np.ndarray[Any, Any]
# Of no split, of no attacker, of no public backbone or mask.
STREAM = "membership"
FEWEST = 20


class Candidates(NamedTuple):
    """Rows of one side.

    Attributes:
        read: `[n]` int64 row numbers -> `[n, S, S, 3]` uint8 pictures.
        numbers: `[N]` int64 row numbers.
        labels: of these rows, in the same order.
    """

    read: Callable[[Array], Array]
    numbers: Array
    labels: Labels

    def part(self, places: Array) -> Candidates:
        """The rows at these places ([n] int64)."""
        business = {task: values[places] for task, values in self.labels.business.items()}
        return Candidates(
            self.read, self.numbers[places], Labels(business, self.labels.private[places])
        )


def joined(first: Candidates, second: Candidates) -> Candidates:
    """The rows of one after those of the other, numbered by their place."""
    sides, count = (first, second), len(first.numbers)
    business = {
        task: np.concatenate([side.labels.business[task] for side in sides])
        for task in first.labels.business
    }
    private = np.concatenate([side.labels.private for side in sides])
    images = [side.read(side.numbers) for side in sides]
    kept = np.concatenate(images)
    return Candidates(
        lambda places: kept[places],
        np.arange(count + len(second.numbers), dtype=np.int64),
        Labels(business, private),
    )


def members(dataset: Dataset, most: int, seed: int) -> Candidates:
    """Training rows, at most so many of them, in random order.

    Args:
        dataset: the run's own data, with the training rows that it really trained on.
        most: how many.
        seed: of the choice.

    Raises:
        UsageError: there are fewer than 20.
    """
    return _some(dataset, "train", most, seed)


def non_members(dataset: Dataset, data: DataConfig, most: int, seed: int) -> Candidates:
    """Rows that no part of training, validation or attackers used, at most so many of them.

    Drawn faces: a stream of their own, as long as asked for. Other data: test rows.

    Args:
        dataset: the run's own data.
        data: what it was opened with.
        most: how many.
        seed: of the choice among test rows.

    Raises:
        UsageError: there are fewer than 20.
    """
    if data.dataset == "synthetic_faces":
        read, labels = fresh_faces(data, STREAM, most)
        return Candidates(read, np.arange(most, dtype=np.int64), labels)
    return _some(dataset, "test", most, seed)


def _some(dataset: Dataset, split: str, most: int, seed: int) -> Candidates:
    rows = np.random.default_rng(seed).permutation(dataset.rows[split])[:most]
    if len(rows) < FEWEST:
        raise UsageError(
            f"--dataset={dataset.name}: {len(rows)} {split} rows; membership inference needs at "
            f"least {FEWEST} members (train) and as many non-members (test)"
        )
    return Candidates(dataset.store.images, rows, dataset.labels_of(rows))
