"""Intervals of a balanced accuracy, by hand and by counting how often they cover the truth."""

import numpy as np
import pytest

from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval, wilson_interval

EIGHT = np.full(8, 1 / 8)


def of(recalls, rows, times=4_000, seed=0):
    """`[times, 2]` intervals of independent draws, and the true balanced accuracy."""
    recalls, rows = np.broadcast_arrays(recalls, rows)
    hits = np.random.default_rng(seed).binomial(rows, recalls, (times, len(rows)))
    found = [balanced_accuracy_interval(h.tolist(), rows.tolist()) for h in hits]
    return np.array(found), recalls.mean()


@pytest.mark.parametrize(
    ("recalls", "rows"),
    [
        (EIGHT, np.full(8, 250)),
        (EIGHT, np.full(8, 20)),
        # Nearly all rows are of two classes, the others of a dozen.
        (np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]), np.array([900, 800] + [12] * 6)),
        (np.array([0.6, 0.4]), np.array([100, 60])),
        (np.full(8, 0.97), np.full(8, 30)),
    ],
)
def test_balanced_accuracy_interval_covers_the_truth(recalls, rows):
    found, true = of(recalls, rows)
    held = np.mean((found[:, 0] <= true) & (true <= found[:, 1]))
    assert 0.93 < held < 0.985
    assert np.mean(found[:, 1] < true) < 0.045, "the upper end alone, of which a bar is made"


def test_balanced_accuracy_interval_of_uneven_classes_is_wider_than_wilson():
    rows = np.array([900, 800] + [12] * 6)
    found, true = of(np.full(8, 0.2), rows)
    naive = [wilson_interval(middle * rows.sum(), rows.sum()) for middle in found.mean(axis=1)]
    ends = np.array(naive)
    assert np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])) < 0.6


def test_balanced_accuracy_interval_equals_hand_calculation():
    # 3 of 10 and 8 of 20: shares 3.5/11 and 8.5/21, mean 0.35.
    variance = (3.5 / 11 * 7.5 / 11 / 10 + 8.5 / 21 * 12.5 / 21 / 20) / 4
    low, high = balanced_accuracy_interval([3, 8], [10, 20])
    assert (low + high) / 2 == pytest.approx(0.35)
    assert high - low == pytest.approx(2 * 1.959964 * variance**0.5)
    assert balanced_accuracy_interval([3, 0, 8], [10, 0, 20]) == [low, high]


def test_balanced_accuracy_interval_stays_in_the_unit_interval():
    assert balanced_accuracy_interval([0, 0], [5, 5])[0] == 0
    assert 0.05 < balanced_accuracy_interval([0, 0], [5, 5])[1] < 0.3
    low, high = balanced_accuracy_interval([5, 5], [5, 5])
    assert 0.7 < low < 0.95 and high == 1


@pytest.mark.parametrize(("hits", "rows"), [([], []), ([0, 0], [0, 0]), ([3], [2]), ([-1], [2])])
def test_balanced_accuracy_interval_of_impossible_counts_is_refused(hits, rows):
    with pytest.raises(ValueError, match="expected 0 <= hits"):
        balanced_accuracy_interval(hits, rows)
