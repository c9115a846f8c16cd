"""Identity as the private label: which people, and which of their images are held out."""

from __future__ import annotations

import numpy as np

from tf_mtl_privacy.config.data import PERSON_SPLIT_VERSION
from tf_mtl_privacy.data.source import DAMAGED, TEST, TRAIN, VALIDATION
from tf_mtl_privacy.data.splitting import name_hashes
from tf_mtl_privacy.errors import UsageError

# One image to learn a person from, one to validate on, one to test on.
_LEAST_IMAGES = 3


def choose_people(person: np.ndarray, split: np.ndarray, count: int) -> np.ndarray:
    """The `count` people with most undamaged images; ties go to the smaller number.

    Args:
        person: `[N]` int64, -1 unknown.
        split: `[N]` int8; damaged rows do not count.
        count: how many people, > 0.

    Returns:
        `[count]` int64 numbers of people, ascending.

    Raises:
        UsageError: fewer than `count` people have at least three images.
    """
    people, images = np.unique(person[(person >= 0) & (split != DAMAGED)], return_counts=True)
    people, images = people[images >= _LEAST_IMAGES], images[images >= _LEAST_IMAGES]
    if len(people) < count:
        raise UsageError(
            f"--num_identities={count}: only {len(people)} people have {_LEAST_IMAGES} or more "
            "usable images"
        )
    by_images = np.lexsort((people, -images))
    return np.sort(people[by_images[:count]])


def split_by_person(
    private: np.ndarray,
    split: np.ndarray,
    holdout: float,
    seed: int,
    *,
    names: np.ndarray | None = None,
    version: int = PERSON_SPLIT_VERSION,
) -> np.ndarray:
    """Splits each chosen person's images anew, so that all are in train, validation and test.

    Of n images, `round(holdout * n)` (at least 1) are for testing, half as many (at least 1) for
    validation, the rest (at least 1) for training. They are taken in the order of a hash of the
    row's name keyed with `seed`, person by person: a person who is added or removed moves no row
    of anybody else. An image that is added or removed can move others of the same person, so an
    epsilon compares tables after this choice. Rows of nobody keep their split.

    Args:
        private: `[N]` int32 class of the person, -1 for everybody else.
        split: `[N]` int8; damaged rows stay damaged.
        holdout: share for testing, in (0, 0.5].
        seed: >= 0.
        names: `[N]` what stays the same when other rows come or go (file names); by default the
            row numbers, which do not where rows are numbered anew.
        version: 1 orders the rows by a permutation of all row numbers, as runs did before
            `DataConfig.split_version` was recorded; there one person moves the rows of others.

    Returns:
        `[N]` int8.
    """
    result = split.copy()
    if version == 1:
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(private))
    else:
        order = np.argsort(
            name_hashes(np.arange(len(private)) if names is None else names, seed), kind="stable"
        )
    order = order[(private[order] >= 0) & (split[order] != DAMAGED)]
    by_person = order[np.argsort(private[order], kind="stable")]
    _, counts = np.unique(private[by_person], return_counts=True)
    for rows in np.split(by_person, np.cumsum(counts)[:-1]):
        testing = min(max(round(holdout * len(rows)), 1), max(len(rows) - 2, 1))
        validating = min(max(testing // 2, 1), max(len(rows) - testing - 1, 0))
        result[rows] = TRAIN
        result[rows[:testing]] = TEST
        result[rows[testing : testing + validating]] = VALIDATION
    return result
