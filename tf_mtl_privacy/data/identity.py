"""Identity as the private label: which people, and which of their images are held out."""

from __future__ import annotations

import numpy as np

from tf_mtl_privacy.data.source import DAMAGED, TEST, TRAIN, VALIDATION
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
    private: np.ndarray, split: np.ndarray, holdout: float, seed: int
) -> np.ndarray:
    """Splits each chosen person's images anew, so that all are in train, validation and test.

    Of n images, `round(holdout * n)` (at least 1) are for testing, half as many (at least 1) for
    validation, the rest (at least 1) for training. Which ones depends on `seed` and the row
    numbers only. Other rows keep their split.

    Args:
        private: `[N]` int32 class of the person, -1 for everybody else.
        split: `[N]` int8; damaged rows stay damaged.
        holdout: share for testing, in (0, 0.5].
        seed: >= 0.

    Returns:
        `[N]` int8.
    """
    result = split.copy()
    shuffled = np.random.Generator(np.random.Philox(key=seed)).permutation(len(private))
    shuffled = shuffled[(private[shuffled] >= 0) & (split[shuffled] != DAMAGED)]
    by_person = shuffled[np.argsort(private[shuffled], kind="stable")]
    _, counts = np.unique(private[by_person], return_counts=True)
    for rows in np.split(by_person, np.cumsum(counts)[:-1]):
        testing = min(max(round(holdout * len(rows)), 1), max(len(rows) - 2, 1))
        validating = min(max(testing // 2, 1), max(len(rows) - testing - 1, 0))
        result[rows] = TRAIN
        result[rows[:testing]] = TEST
        result[rows[testing : testing + validating]] = VALIDATION
    return result
