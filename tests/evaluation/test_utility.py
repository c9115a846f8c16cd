"""Figures of one task against scikit-learn, SciPy and hand-worked values."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.utility import confusion_matrix, utility


def _names(classes):
    return tuple(f"class{number}" for number in range(classes))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 10_000))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_scikit_learn(classes, rows, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, classes, rows)
    labels[0] = 0
    logits = rng.normal(size=(rows, classes)).astype(np.float32)
    figures = utility(logits, labels, _names(classes))

    truth, predicted = labels[labels >= 0], logits[labels >= 0].argmax(1)
    average = "binary" if classes == 2 else "macro"
    f1 = metrics.f1_score(truth, predicted, average=average, zero_division=0)
    recall = metrics.recall_score(
        truth, predicted, labels=range(classes), average=None, zero_division=np.nan
    )
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(truth, predicted)
    )
    assert figures["f1"] == pytest.approx(f1)
    for number, name in enumerate(_names(classes)):
        if np.isnan(recall[number]):
            assert figures["recall"][name] is None
        else:
            assert figures["recall"][name] == pytest.approx(recall[number])
    assert figures["n"] == truth.size and figures["unknown"] == rows - truth.size
    assert figures["majority"] == pytest.approx(np.bincount(truth).max() / truth.size)
    assert figures["chance"] == pytest.approx(1 / classes)
    json.dumps(figures, allow_nan=False)


def test_by_hand():
    # Truth 1 1 1 0, one of the ones is read as 0, and a row without a label.
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [9, 0]], np.float32)
    figures = utility(logits, np.array([1, 1, 1, 0, -1]), ("no", "yes"))
    assert figures["accuracy"] == 0.75
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["f1"] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))
    assert figures["recall"] == {"no": 1.0, "yes": pytest.approx(2 / 3)}
    assert (figures["majority"], figures["chance"], figures["n"]) == (0.75, 0.5, 4)


def test_nothing_known_gives_a_reason_and_no_nan():
    figures = utility(np.zeros((3, 2), np.float32), np.full(3, -1), ("no", "yes"))
    for name in ("accuracy", "ci95", "balanced_accuracy", "f1", "majority"):
        assert figures[name] is None
    assert figures["reason"] == "no row has a label"
    assert figures["n"] == 0 and figures["unknown"] == 3
    assert figures["recall"] == {"no": None, "yes": None}


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 3)), np.zeros(3, int), "expected logits"),
        (np.zeros((2, 2)), np.array([0, 2]), "label 2"),
        (np.full((2, 2), np.nan), np.array([0, 1]), "not finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        utility(logits, labels, ("no", "yes"))


def test_confusion_matrix_has_the_truth_in_its_rows():
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    expected = metrics.confusion_matrix(labels, predicted)
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, 3), expected)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (973, 1000), (1, 1)])
def test_wilson_interval_agrees_with_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx([expected.low, expected.high], abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(successes, n)
