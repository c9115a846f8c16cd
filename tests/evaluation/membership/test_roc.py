"""ROC figures against scikit-learn, a public toolbox, and simulated coverage."""

import numpy as np
import pytest
from art.metrics.privacy.worst_case_mia_score import get_roc_for_multi_fprs
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score, roc_curve

from tf_mtl_privacy.evaluation.membership import roc


@pytest.fixture(scope="module")
def sides():
    draw = np.random.default_rng(1)
    return draw.normal(0.7, 1, 1_500), draw.normal(0, 1, 1_000)


def joined(sides):
    return np.repeat([1, 0], [len(side) for side in sides]), np.concatenate(sides)


def test_auc_equals_scikit_learn_and_the_rank_sum(sides):
    truth, scores = joined(sides)
    fpr, tpr = roc.roc(*sides)
    theirs = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_array_equal(fpr, theirs[0])
    np.testing.assert_array_equal(tpr, theirs[1])
    area = roc.auc(*sides)[0]
    assert area == pytest.approx(roc_auc_score(truth, scores))
    assert area == pytest.approx(mannwhitneyu(*sides).statistic / (1_500 * 1_000))


def test_figures_equal_the_adversarial_robustness_toolbox(sides):
    truth, scores = joined(sides)
    _, theirs, _ = get_roc_for_multi_fprs(scores, truth, np.array([0.01, 0.05]))
    # It takes the threshold below the FPR, we go on to the FPR itself: at most one step more.
    for rate, value in zip((0.01, 0.05), theirs, strict=True):
        assert 0 <= roc.tpr_at(*sides, rate)[0] - value < 0.01


def test_advantage_equals_hand_calculation():
    members, others = np.array([3.0, 2.0, 2.0, 0.0]), np.array([2.0, 1.0, 0.0, 0.0, 0.0])
    value, (low, high) = roc.advantage(members, others, 2.0)
    assert value == pytest.approx(3 / 4 - 1 / 5)
    # Newcombe (1998), method 10, from Wilson's intervals (30.06, 95.44 %) and (3.62, 62.45 %).
    assert low == pytest.approx(0.55 - np.hypot(0.75 - 0.3006, 0.6245 - 0.2), abs=1e-3)
    assert high == pytest.approx(0.55 + np.hypot(0.9544 - 0.75, 0.2 - 0.0362), abs=1e-3)
    assert roc.best_threshold(members, others) == 2.0


def test_figures_of_equal_scores_are_chance():
    members, others = np.zeros(100), np.zeros(200)
    assert roc.auc(members, others)[0] == 0.5
    assert roc.tpr_at(members, others, 0.05)[0] == pytest.approx(0.05)


def test_figures_of_a_perfect_attack_keep_intervals():
    members, others = np.arange(100.0) + 1_000, np.arange(100.0)
    value, (low, high) = roc.auc(members, others)
    assert (value, high) == (1.0, 1.0) and 0.9 < low < 1.0
    value, (low, high) = roc.tpr_at(members, others, 0.05)
    assert (value, high) == (1.0, 1.0) and 0.9 < low < 1.0


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_cover_the_truth_at_their_confidence(shift):
    draw, runs, size = np.random.default_rng(2), 300, 400
    truth = {
        "auc": norm.cdf(shift / np.sqrt(2)),
        "tpr": norm.sf(norm.isf(0.05) - shift),
        "advantage": norm.sf(0.5 - shift) - norm.sf(0.5),
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(runs):
        members, others = draw.normal(shift, 1, size), draw.normal(0, 1, size)
        found = {
            "auc": roc.auc(members, others),
            "tpr": roc.tpr_at(members, others, 0.05),
            "advantage": roc.advantage(members, others, 0.5),
        }
        for name, (_, (low, high)) in found.items():
            covered[name] += low <= truth[name] <= high
    # 95 % +- four deviations of a count of 300, which is 5 points.
    assert all(count / runs >= 0.90 for count in covered.values()), covered
    # And not by being far too wide: the TPR's would always cover at twice the width.
    assert covered["tpr"] / runs <= 0.995


@pytest.mark.parametrize(
    ("members", "others", "rate"),
    [(60, 57, 0.01), (100, 100, 0.01), (60, 57, 0.05), (500, 500, 0.01)],
)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_tpr_at_with_few_rows_covers_the_truth(members, others, rate, shift):
    draw, runs = np.random.default_rng(5), 400
    true = norm.sf(norm.isf(rate) - shift)
    found = [
        roc.tpr_at(draw.normal(shift, 1, members), draw.normal(0, 1, others), rate)[1]
        for _ in range(runs)
    ]
    low, high = np.transpose(found)
    # 2.5 % each, and four deviations of a count of 400.
    assert np.mean(low > true) <= 0.056 and np.mean(high < true) <= 0.056


def test_tpr_at_with_few_non_members_ends_at_zero():
    # One in a hundred of 57 is none in most cases: the threshold may lie above all that is known.
    assert roc.tpr_at(np.ones(60), np.linspace(0, 0.9, 57), 0.01)[1][0] == 0.0
    assert roc.tpr_at(np.ones(60), np.linspace(0, 0.9, 1_000), 0.01)[1][0] > 0.9


def test_tpr_at_is_wider_than_wilson_of_members_alone():
    draw, runs = np.random.default_rng(3), 200
    missed = 0
    for _ in range(runs):
        members, others = draw.normal(1, 1, 20_000), draw.normal(0, 1, 200)
        value, (low, high) = roc.tpr_at(members, others, 0.05)
        true = norm.sf(norm.isf(0.05) - 1)
        assert low <= value <= high
        missed += abs(value - true) > 1.96 * np.sqrt(true * (1 - true) / 20_000)
    assert missed / runs > 0.5


def test_figures_at_one_in_a_thousand_need_ten_thousand_non_members():
    draw = np.random.default_rng(4)
    members = draw.normal(0, 1, 100)
    few = roc.figures(members, draw.normal(0, 1, 9_999), 0.0)["tpr_at_fpr"]
    enough = roc.figures(members, draw.normal(0, 1, 10_000), 0.0)["tpr_at_fpr"]
    assert few["0.001"] == {"value": None, "ci95": None}
    assert few["0.01"]["value"] is not None and enough["0.001"]["value"] is not None


def test_figures_roc_has_forty_points_with_both_ends(sides):
    curve = roc.figures(*sides, 0.0)["roc"]
    assert len(curve["fpr"]) == len(curve["tpr"]) <= 100
    assert (curve["fpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0.0, 1.0, 1.0)
    fpr, tpr = roc.roc(*sides)
    np.testing.assert_allclose(curve["tpr"][1:], np.interp(curve["fpr"][1:], fpr, tpr), atol=1e-3)


@pytest.mark.parametrize("bad", [np.array([]), np.array([np.nan])])
def test_roc_with_empty_or_infinite_scores_is_refused(bad):
    with pytest.raises(ValueError, match="members"):
        roc.roc(bad, np.zeros(3))
