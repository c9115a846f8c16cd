"""Accuracy of the heads and accuracy by group, against scikit-learn, SciPy and hand calculation."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2_contingency
from sklearn import metrics

from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.utility import (
    PRIVATE,
    confusion_matrix,
    group_accuracy,
    holm,
    homogeneity,
    subgroups,
    utility,
)


def _names(classes):
    return tuple(f"class{number}" for number in range(classes))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 10_000))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_utility_equals_scikit_learn(classes, rows, seed):
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


def test_utility_equals_hand_calculation():
    # Truth 1 1 1 0, one of the ones is read as 0, and a row without a label.
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [9, 0]], np.float32)
    figures = utility(logits, np.array([1, 1, 1, 0, -1]), ("no", "yes"))
    assert figures["accuracy"] == 0.75
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["f1"] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))
    assert figures["recall"] == {"no": 1.0, "yes": pytest.approx(2 / 3)}
    assert (figures["majority"], figures["chance"], figures["n"]) == (0.75, 0.5, 4)


def test_utility_without_labels_has_a_reason():
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
def test_utility_with_mismatched_arrays_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        utility(logits, labels, ("no", "yes"))


def test_confusion_matrix_rows_are_true_classes():
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


def test_group_accuracy_equals_hand_calculation():
    groups = np.array([0] * 40 + [1] * 20 + [2] * 19 + [-1] * 5)
    correct = np.array([True] * 30 + [False] * 10 + [True] * 20 + [True] * 19 + [False] * 5)
    found = group_accuracy(correct, groups, ("a", "b", "c"))
    assert found["groups"]["a"] == {"accuracy": 0.75, "n": 40}
    assert found["groups"]["b"] == {"accuracy": 1.0, "n": 20}
    small = {"accuracy": None, "n": 19, "reason": "fewer than 20 rows"}
    assert found["groups"]["c"] == small
    assert found["worst"] == {"group": "a", "accuracy": 0.75, "n": 40}
    assert found["best"]["group"] == "b"
    assert found["gap"] == 0.25 and found["too_small"] == 1
    # Of the 60 rows 1/6 is wrong, so of b's 20 rows 3.3 are expected: too few for the test.
    assert found["p_value"] is None


def test_group_accuracy_of_small_groups_has_no_figures():
    found = group_accuracy(np.ones(4, bool), np.array([0, 0, 1, 1]), ("a", "b"))
    assert found["worst"] is None and found["best"] is None and found["gap"] is None


def test_group_accuracy_of_many_groups_lists_extremes_only():
    groups = np.repeat(np.arange(17), 20)
    correct = groups != 3
    found = group_accuracy(correct, groups, [str(n) for n in range(17)])
    assert "groups" not in found
    assert found["worst"] == {"group": "3", "accuracy": 0.0, "n": 20}


@pytest.mark.parametrize("count", [2, 17])
def test_group_accuracy_of_people_names_nobody(count):
    groups = np.repeat(np.arange(count), 20)
    names = [f"Anna Example {n}" for n in range(count)]
    logits = {"gender": np.eye(2)[(groups == 1).astype(int)]}
    labels, classes = {"gender": np.zeros(len(groups), int)}, {"gender": ("man", "woman")}
    found = subgroups(logits, labels, classes, groups, names, people=True)["gender"][PRIVATE]
    assert found["worst"] == {"group": "a person", "accuracy": 0.0, "n": 20}
    assert found["best"] == {"group": "a person", "accuracy": 1.0, "n": 20}
    assert found["gap"] == 1.0 and "Anna" not in str(found)
    named = subgroups(logits, labels, classes, groups, names)["gender"][PRIVATE]
    assert named["worst"]["group"] == "Anna Example 1"


def test_subgroups_use_every_other_label_and_known_rows():
    n = 80
    gender, age = np.arange(n) % 2, np.arange(n) // 2 % 2
    private = np.repeat([0, 1, -1, -1], n // 4)
    right = np.eye(2)[gender]
    wrong_for_old = np.where((age == 1)[:, None], 1 - right, right)
    labels = {"gender": gender.copy(), "age": age}
    labels["gender"][:4] = -1
    classes = {"gender": ("f", "m"), "age": ("young", "old")}
    found = subgroups({"gender": wrong_for_old, "age": right}, labels, classes, private, ("x", "y"))
    assert set(found["gender"]) == {"age", PRIVATE} and set(found["age"]) == {"gender", PRIVATE}
    assert found["gender"]["age"]["groups"] == {
        "young": {"accuracy": 1.0, "n": 38},
        "old": {"accuracy": 0.0, "n": 38},
    }
    assert found["gender"][PRIVATE]["groups"]["x"]["n"] == 16
    assert found["age"]["gender"]["groups"]["f"]["accuracy"] == 0.5


def test_subgroups_without_a_private_label_have_no_such_grouping():
    labels = {"gender": np.zeros(30, int), "age": np.zeros(30, int)}
    logits = {name: np.zeros((30, 2)) for name in labels}
    classes = {"gender": ("f", "m"), "age": ("young", "old")}
    found = subgroups(logits, labels, classes, np.full(30, -1), ())
    assert set(found["gender"]) == {"age"}


def test_homogeneity_equals_scipy():
    hits, rows = np.array([30, 45, 50]), np.array([40, 50, 80])
    figures = [{"accuracy": h / n, "n": n} for h, n in zip(hits, rows, strict=True)]
    expected = chi2_contingency([hits, rows - hits], correction=False).pvalue
    assert 0 < expected < 0.05
    assert homogeneity(figures) == pytest.approx(expected, rel=1e-9)


def test_homogeneity_of_one_group_is_none():
    assert homogeneity([]) is None
    assert homogeneity([{"accuracy": 0.5, "n": 30}]) is None
    assert homogeneity([{"accuracy": 1.0, "n": 30}, {"accuracy": 1.0, "n": 99}]) is None


@pytest.mark.parametrize(("wrong", "tested"), [(16, False), (20, True)])
def test_homogeneity_with_few_expected_errors_is_none(wrong, tested):
    # 400 rows, 100 of them in one group: 4 or 5 of its rows are expected to be wrong.
    figures = [{"accuracy": 1 - wrong / 400, "n": 100}, {"accuracy": 1 - wrong / 400, "n": 300}]
    assert (homogeneity(figures) is not None) is tested


def test_holm_equals_hand_calculation():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 is lifted to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_subgroups_adjust_p_values_for_all_tests():
    n = 400
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 2, n) for name in ("gender", "age")}
    logits = {
        name: np.eye(2)[np.where(rng.random(n) < 0.7, v, 1 - v)] for name, v in labels.items()
    }
    classes = dict.fromkeys(labels, ("a", "b"))
    private = np.repeat([0, 1], n // 2)
    found = subgroups(logits, labels, classes, private, ("x", "y"))
    tests = [group for task in found.values() for group in task.values()]
    assert len(tests) == 4 and all(group["p_value"] is not None for group in tests)
    smallest = min(tests, key=lambda group: group["p_value"])
    assert smallest["adjusted_p_value"] == pytest.approx(min(4 * smallest["p_value"], 1))
    # Everybody is read without a fault: nothing is tested.
    sure = subgroups({k: np.eye(2)[v] for k, v in labels.items()}, labels, classes, private, ())
    assert sure["gender"]["age"]["p_value"] is None
    assert sure["gender"]["age"]["adjusted_p_value"] is None
