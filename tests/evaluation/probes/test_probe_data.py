"""Rows for attackers, and how answers are scored."""

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.utils.class_weight import compute_sample_weight

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval
from tf_mtl_privacy.evaluation.probes.data import balanced_accuracy, figures, row_weights


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(300, 5)), rng.integers(0, 4, 300)
    found = figures(scores, labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, scores.argmax(1)))
    # The fifth class has no rows: guesses of it are wrong, and that is all.
    with warnings.catch_warnings(action="ignore"):
        expected = balanced_accuracy_score(labels, scores.argmax(1))
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert balanced_accuracy(scores, labels) == found["balanced_accuracy"]
    assert found["ci95"][0] < found["accuracy"] < found["ci95"][1] and found["n"] == 300


def test_the_interval_of_a_balanced_accuracy_is_of_each_classes_own_rows():
    labels = np.repeat([0, 1], [90, 10])
    scores = np.eye(2)[np.where(np.arange(100) < 95, 0, 1)]
    # All of the first class and half of the second are read.
    found = figures(scores, labels)
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["balanced_ci95"] == balanced_accuracy_interval([90, 5], [90, 10])
    assert found["accuracy"] > found["balanced_ci95"][1], "accuracy is that of the frequent class"


def test_row_weights_are_scikit_learn_s_up_to_the_bound():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    expected = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(row_weights(labels, 5), expected, rtol=1e-6)
    assert row_weights(labels, 5, max_weight=2.0).max() == 2.0
    assert (row_weights(np.arange(8) % 4, 4) == 1).all()


def test_a_blind_copy_tells_no_test_label():
    data = make_target()
    blind = data.blind()
    assert not blind.test_labels.any() and data.test_labels.any()
    assert blind.test is data.test and blind.validation_labels is data.validation_labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_labels": np.zeros(3, np.int32)}, "test: rows"),
        ({"validation": np.zeros((120, 5), np.float32)}, "validation: rows"),
        ({"train_labels": np.full(240, 3, np.int32)}, r"train: expected labels in \[0, 3\)"),
        ({"train_labels": np.full(240, -1, np.int32)}, "train: expected labels"),
        ({"test": np.full((160, 6, 6, 4), np.nan, np.float32)}, "test: values are not finite"),
        (
            {"test": np.zeros((0, 6, 6, 4), np.float32), "test_labels": np.zeros(0, np.int32)},
            "test: expected at least one row",
        ),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(make_target(), **changes)
