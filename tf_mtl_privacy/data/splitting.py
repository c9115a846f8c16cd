"""Splits rows into training, validation and testing where the data set does not say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tf_mtl_privacy.config.data import PERSON_SPLIT_VERSION
from tf_mtl_privacy.data.sources.base import TEST, TRAIN, VALIDATION

# Bumped when the same names would be split in another way.
SPLIT_VERSION = 2
# Share of the rows (or people) for testing, and as many again for validation.
_HELD_OUT = 0.1
HOLDOUT_NOTE = (
    "The data has no validation rows: about 10 % of its training rows (whole people where they are "
    "known) are held out for validation, chosen by name and --data_seed."
)


def split_names(keys: np.ndarray, identity: Sequence[str] | None = None) -> list[str]:
    """The name by which each row is split, `[N]`: that of its person, or else its own.

    Args:
        keys: `[N]` text.
        identity: `[N]` the people's names, empty where unknown; None where nobody is known.
    """
    people = [""] * len(keys) if identity is None else identity
    return [
        f"person/{person}" if person else f"row/{key}"
        for key, person in zip(keys, people, strict=True)
    ]


def random_split(names: Sequence[str], seed: int) -> np.ndarray:
    """Splits rows about 80/10/10 into train, validation and test, `[N]` int8.

    The side of a name is a keyed hash of it and `seed` alone, so a row that is added or removed
    moves no other: below 0.1 it is for testing, below 0.2 for validation. Rows of the same name
    share a side. Where a side would stay empty and there are at least three names, those whose
    hash is nearest to it fill it (so in a tiny set a new name may move another).
    """
    number, value = _hashes(names, seed)
    order = np.argsort(value, kind="stable")
    total = len(order)
    held = np.searchsorted(value[order], [_HELD_OUT, 2 * _HELD_OUT])
    if total >= 3:
        testing = int(np.clip(held[0], 1, total - 2))
        stop = int(np.clip(held[1], testing + 1, total - 1))
    else:
        testing = stop = 0
    sides = np.full(total, TRAIN, np.int8)
    sides[order[:testing]] = TEST
    sides[order[testing:stop]] = VALIDATION
    return sides[number]


def with_validation(split: np.ndarray, names: Sequence[str], seed: int) -> np.ndarray | None:
    """Holds rows out of train where there are none for validation; None where nothing is to do.

    About 10 % of the names that train has, by the hash of `random_split`; at least one, where
    train has two. A name that train shares with another split stays together within train.

    Args:
        split: `[N]` int8, see `LabelTable`.
        names: `[N]`, see `split_names`.
        seed: >= 0.

    Returns:
        `[N]` int8, or None.
    """
    training = np.flatnonzero(split == TRAIN)
    if (split == VALIDATION).any():
        return None
    number, value = _hashes([names[row] for row in training], seed)
    if len(value) < 2:
        return None
    order = np.argsort(value, kind="stable")
    held = int(np.clip(np.searchsorted(value[order], _HELD_OUT), 1, len(value) - 1))
    result = split.copy()
    result[training[np.isin(number, order[:held])]] = VALIDATION
    return result


def name_hashes(names: Sequence[str] | np.ndarray, seed: int) -> np.ndarray:
    """Hashes each name on its own, by BLAKE2b keyed with the seed: `[N]` float64 in [0, 1)."""
    key = str(seed).encode()
    digests = (
        hashlib.blake2b(str(name).encode(), key=key, digest_size=8).digest() for name in names
    )
    return np.frombuffer(b"".join(digests), ">u8").astype(np.float64) / 2**64


def _hashes(names: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(number of each row's name among the different ones, hash of each of these in [0, 1))."""
    different, number = np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)
    return number, name_hashes(different, seed)


def limit_rows(
    rows: np.ndarray,
    private: np.ndarray,
    count: int,
    seed: int,
    *,
    names: np.ndarray | None = None,
    version: int = PERSON_SPLIT_VERSION,
) -> np.ndarray:
    """Chooses `count` of `rows` ([n] int64), ascending; 0 means all.

    Rows whose private label is known come first, one of each class in turn, so that a small
    choice still has every class; the others follow. Within a class they come in the order of a
    hash of the row's name keyed with `seed`, so that a row that goes lets in as many others as it
    leaves room for, and the rest stays.

    Args:
        rows: `[n]` int64 row numbers.
        private: `[N]` int32 class; all -1 for a plain random choice.
        count: how many, >= 0.
        seed: >= 0.
        names: `[N]` what stays the same when other rows come or go (file names); by default the
            row numbers.
        version: 1 orders the rows by a permutation of all of them, as runs did before
            `DataConfig.split_version` was recorded.
    """
    if not count or count >= len(rows):
        return rows
    if version == 1:
        order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(rows))
    else:
        order = np.argsort(name_hashes(rows if names is None else names[rows], seed), kind="stable")
    label = private[rows[order]]
    by_class = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[by_class], label[by_class])
    turn = np.empty(len(rows), np.int64)
    turn[by_class] = np.arange(len(rows)) - starts
    turn[label < 0] = len(rows)
    return np.sort(rows[order[np.argsort(turn, kind="stable")[:count]]])
