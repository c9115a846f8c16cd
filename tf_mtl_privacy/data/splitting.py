"""Which rows are for training, validation and testing where the data set does not say."""

from __future__ import annotations

import numpy as np

from tf_mtl_privacy.data.source import TEST, TRAIN, VALIDATION

# Share of the rows (or people) for testing, and as many again for validation.
_HELD_OUT = 0.1


def random_split(count: int, person: np.ndarray | None, seed: int) -> np.ndarray:
    """Splits rows 80/10/10 into train, validation and test, `[count]` int8.

    Whole people (`[count]` int64, -1 for unknown, each of whom counts as a person of their own)
    go to one side. With at least three people no side is empty.
    """
    groups = np.arange(count)
    if person is not None:
        groups = np.where(person >= 0, person, person.max(initial=-1) + 1 + groups)
    _, group = np.unique(groups, return_inverse=True)
    total = int(group.max(initial=-1)) + 1
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(total)
    held = max(round(_HELD_OUT * total), 1 if total >= 3 else 0)
    sides = np.full(total, TRAIN, np.int8)
    sides[order[:held]] = TEST
    sides[order[held : 2 * held]] = VALIDATION
    return sides[group]


def limit_rows(rows: np.ndarray, private: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A fixed choice of `count` of `rows` ([n] int64), ascending; 0 means all.

    Rows whose private label is known come first, one of each class in turn, so that a small
    choice still has every class; the others follow at random. `private` is `[N]` int32; pass
    all -1 for a plain random choice.
    """
    if not count or count >= len(rows):
        return rows
    order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(rows))
    label = private[rows[order]]
    by_class = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[by_class], label[by_class])
    turn = np.empty(len(rows), np.int64)
    turn[by_class] = np.arange(len(rows)) - starts
    turn[label < 0] = len(rows)
    return np.sort(rows[order[np.argsort(turn, kind="stable")[:count]]])
