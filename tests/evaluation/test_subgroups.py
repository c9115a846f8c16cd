"""Accuracy within groups, by hand."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from tf_mtl_privacy.evaluation.subgroups import PRIVATE, group_accuracy, homogeneity, subgroups


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
    assert found["gap"] == 0.25 and found["too_small"] == 1 and found["p_value"] < 0.05


def test_no_group_is_large_enough():
    found = group_accuracy(np.ones(4, bool), np.array([0, 0, 1, 1]), ("a", "b"))
    assert found["worst"] is None and found["best"] is None and found["gap"] is None


def test_many_groups_are_summed_up():
    groups = np.repeat(np.arange(17), 20)
    correct = groups != 3
    found = group_accuracy(correct, groups, [str(n) for n in range(17)])
    assert "groups" not in found
    assert found["worst"] == {"group": "3", "accuracy": 0.0, "n": 20}


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
    assert homogeneity([{"accuracy": 0.5, "n": 30}]) == 1.0
    assert homogeneity([{"accuracy": 1.0, "n": 30}, {"accuracy": 1.0, "n": 99}]) == 1.0
