"""Accuracy within groups, by hand."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from tf_mtl_privacy.evaluation.utility import PRIVATE, group_accuracy, holm, homogeneity, subgroups


def test_group_accuracy_by_hand():
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


def test_no_group_is_large_enough():
    found = group_accuracy(np.ones(4, bool), np.array([0, 0, 1, 1]), ("a", "b"))
    assert found["worst"] is None and found["best"] is None and found["gap"] is None


def test_many_groups_are_summed_up():
    groups = np.repeat(np.arange(17), 20)
    correct = groups != 3
    found = group_accuracy(correct, groups, [str(n) for n in range(17)])
    assert "groups" not in found
    assert found["worst"] == {"group": "3", "accuracy": 0.0, "n": 20}


@pytest.mark.parametrize("count", [2, 17])
def test_people_are_not_named(count):
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


def test_every_other_label_is_a_grouping_and_unknown_rows_are_left_out():
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


def test_without_a_private_label_there_is_no_such_grouping():
    labels = {"gender": np.zeros(30, int), "age": np.zeros(30, int)}
    logits = {name: np.zeros((30, 2)) for name in labels}
    classes = {"gender": ("f", "m"), "age": ("young", "old")}
    found = subgroups(logits, labels, classes, np.full(30, -1), ())
    assert set(found["gender"]) == {"age"}


def test_homogeneity_agrees_with_scipy():
    hits, rows = np.array([30, 45, 50]), np.array([40, 50, 80])
    figures = [{"accuracy": h / n, "n": n} for h, n in zip(hits, rows, strict=True)]
    expected = chi2_contingency([hits, rows - hits], correction=False).pvalue
    assert 0 < expected < 0.05
    assert homogeneity(figures) == pytest.approx(expected, rel=1e-9)


def test_homogeneity_where_there_is_nothing_to_compare():
    assert homogeneity([]) is None
    assert homogeneity([{"accuracy": 0.5, "n": 30}]) is None
    assert homogeneity([{"accuracy": 1.0, "n": 30}, {"accuracy": 1.0, "n": 99}]) is None


@pytest.mark.parametrize(("wrong", "tested"), [(16, False), (20, True)])
def test_no_test_where_too_few_errors_are_expected(wrong, tested):
    # 400 rows, 100 of them in one group: 4 or 5 of its rows are expected to be wrong.
    figures = [{"accuracy": 1 - wrong / 400, "n": 100}, {"accuracy": 1 - wrong / 400, "n": 300}]
    assert (homogeneity(figures) is not None) is tested


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 is lifted to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_p_values_are_adjusted_for_all_tests_made():
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
