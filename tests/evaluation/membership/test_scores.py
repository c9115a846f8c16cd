import numpy as np
import pytest
from scipy.special import softmax

from tf_mtl_privacy.evaluation.membership import attacks


def logits_of(probabilities):
    return np.log(np.array(probabilities))


def test_scores_worked_by_hand():
    # p = (1/2, 1/4, 1/4), label 1.
    logits, labels = logits_of([[0.5, 0.25, 0.25]]), np.array([1])
    ln2 = np.log(2)
    np.testing.assert_allclose(attacks.loss(logits, labels), [-2 * ln2])
    np.testing.assert_allclose(attacks.entropy(logits, labels), [-(0.5 + 0.5 + 0.5) * ln2])
    # (1 - 1/4) log 1/4 + 1/2 log 1/2 + 1/4 log 3/4
    expected = 0.75 * np.log(0.25) + 0.5 * np.log(0.5) + 0.25 * np.log(0.75)
    np.testing.assert_allclose(attacks.modified_entropy(logits, labels), [expected])
    np.testing.assert_allclose(attacks.margin(logits, labels), [np.log(0.25) - np.log(0.5)])
    # log(1/4 / 3/4)
    np.testing.assert_allclose(attacks.scaled_logit(logits, labels), [-np.log(3)])


def test_scores_agree_with_the_formulas_on_probabilities():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(0, 2, (50, 4)), draw.integers(0, 4, 50)
    p = softmax(logits, axis=1)
    own = p[np.arange(50), labels]
    others = np.where(np.eye(4, dtype=bool)[labels], 0.0, p * np.log(1 - p)).sum(1)
    expected = (1 - own) * np.log(own) + others
    np.testing.assert_allclose(attacks.modified_entropy(logits, labels), expected)
    np.testing.assert_allclose(attacks.scaled_logit(logits, labels), np.log(own / (1 - own)))
    np.testing.assert_allclose(attacks.loss(logits, labels), np.log(own))


def test_a_confident_wrong_answer_is_told_by_modified_entropy_but_not_by_entropy():
    logits = np.array([[20.0, 0.0], [20.0, 0.0]])
    labels = np.array([0, 1])
    plain, modified = attacks.entropy(logits, labels), attacks.modified_entropy(logits, labels)
    assert plain[0] == plain[1]
    assert modified[0] > -1e-6 and modified[1] < -20


def test_extreme_logits_stay_finite_and_in_order():
    logits = np.array([[2000.0, 0.0, -50.0], [1000.0, 0.0, -50.0]])
    labels = np.array([0, 0])
    for score in (*attacks.THRESHOLDS.values(), attacks.scaled_logit):
        assert np.isfinite(score(logits, labels)).all()
    assert attacks.scaled_logit(logits, labels).tolist() == [2000.0, 1000.0]


def test_a_row_without_a_label_is_not_attacked():
    logits, labels = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([-1, 1])
    for name in ("loss", "modified_entropy", "margin"):
        assert np.isnan(attacks.THRESHOLDS[name](logits, labels)).tolist() == [True, False]
    assert np.isfinite(attacks.entropy(logits, labels)).all()


def test_who_must_read_a_number_reads_the_mean():
    columns = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [np.nan, 7.0, np.nan]])
    assert attacks.filled(columns).tolist() == [[1, 6, 0], [3, 5, 0], [2, 7, 0]]


def test_tasks_are_added():
    logits = {"a": np.array([[1.0, 0.0]]), "b": np.array([[0.0, 2.0, 0.0]])}
    labels = {"a": np.array([0]), "b": np.array([1])}
    total = attacks.over_tasks(attacks.margin, logits, labels)
    assert total == pytest.approx([3.0])
    assert attacks.scaled_logits(logits, labels).shape == (1, 2)
