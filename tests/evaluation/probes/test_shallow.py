"""scikit-learn's attackers against scikit-learn used directly."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.data import Inputs, balanced_accuracy
from tf_mtl_privacy.evaluation.probes.families import boosted_trees, logistic, nearest_neighbours


@pytest.fixture(scope="module")
def data():
    return make_target(shape=(3, 3, 3), rows=(300, 150, 150), leak=0.4)


@pytest.fixture(scope="module")
def rows(data):
    return Inputs(data, 8, 0).standardised


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 0.1])
def test_logistic_regression_is_scikit_learn_s(data, rows, strength):
    labels = data.train_labels
    found = logistic(rows, labels, data.validation_labels, 3, strengths=(strength,), steps=500)
    direct = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
    direct.fit(rows.train, labels)
    np.testing.assert_allclose(found.test, direct.predict_proba(rows.test), atol=0.02)


def test_the_strength_is_chosen_on_validation_rows(data, rows):
    arguments = rows, data.train_labels, data.validation_labels, 3
    each = [logistic(*arguments, strengths=(c,), steps=500) for c in (1e-7, 1e-2)]
    weak, strong = (balanced_accuracy(one.validation, arguments[2]) for one in each)
    # So strong a penalty leaves nearly nothing of the second in the first.
    assert strong > weak
    found = logistic(*arguments, strengths=(1e-7, 1e-2), steps=500)
    np.testing.assert_allclose(found.test, each[1].test, atol=0.02)


@pytest.mark.parametrize("count", [1, 5])
def test_neighbours_vote_as_scikit_learn_s(data, rows, count):
    even = np.concatenate([np.flatnonzero(data.train_labels == k)[:80] for k in range(3)])
    part = rows._replace(train=rows.train[even])
    labels = data.train_labels[even]
    found = nearest_neighbours(part, labels, data.validation_labels, 3, neighbours=(count,))
    direct = KNeighborsClassifier(count).fit(part.train, labels)
    np.testing.assert_allclose(found.test / count, direct.predict_proba(part.test))


def test_the_number_of_neighbours_is_chosen_on_validation_rows(data, rows):
    arguments = rows, data.train_labels, data.validation_labels, 3
    each = [nearest_neighbours(*arguments, neighbours=(k,)) for k in (1, 5, 25)]
    scores = [balanced_accuracy(one.validation, data.validation_labels) for one in each]
    best = each[int(np.argmax(scores))]
    found = nearest_neighbours(*arguments, neighbours=(1, 5, 25, 9_999))
    assert balanced_accuracy(found.validation, data.validation_labels) >= max(scores)
    found = nearest_neighbours(*arguments, neighbours=(1, 5, 25))
    np.testing.assert_array_equal(found.test, best.test)


def test_trees_are_scikit_learn_s(data, rows):
    found = boosted_trees(rows, data.train_labels, 3, rounds=4, seed=0)
    direct = HistGradientBoostingClassifier(
        max_iter=4,
        learning_rate=0.15,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        class_weight="balanced",
    ).fit(rows.train, data.train_labels)
    agree = found.test.argmax(1) == direct.predict(rows.test)
    assert agree.mean() > 0.97


def test_a_class_without_training_rows_has_a_column_of_zeros(data, rows):
    labels = np.where(data.train_labels == 1, 0, data.train_labels)
    for found in (
        logistic(rows, labels, data.validation_labels, 3, strengths=(1.0,), steps=50),
        boosted_trees(rows, labels, 3, rounds=1, seed=0),
        nearest_neighbours(rows, labels, data.validation_labels, 3, neighbours=(5,)),
    ):
        assert found.test.shape == (150, 3) and not found.test[:, 1].any()
