"""Membership attacks, by hand, against a public toolbox, and on planted members."""

import re

import numpy as np
import pytest
from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
from art.estimators.classification import BlackBoxClassifierNeuralNetwork
from scipy.special import softmax
from scipy.stats import binomtest, norm

from tf_mtl_privacy.evaluation.membership import attacks, lira
from tf_mtl_privacy.evaluation.membership.attacks import (
    LEARNERS,
    THRESHOLDS,
    attackable,
    halves,
    learned_scores,
    operating_points,
    over_tasks,
    reported,
    scaled_logit,
    strongest_attack,
)
from tf_mtl_privacy.evaluation.membership.claims import claimed, contradictions, max_tpr
from tf_mtl_privacy.evaluation.membership.lira import seen_by
from tf_mtl_privacy.evaluation.membership.roc import tpr_at
from tf_mtl_privacy.evaluation.membership.run import summary


def logits_of(probabilities):
    return np.log(np.array(probabilities))


def test_threshold_scores_equal_hand_calculation():
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


def test_threshold_scores_equal_formulas_on_probabilities():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(0, 2, (50, 4)), draw.integers(0, 4, 50)
    p = softmax(logits, axis=1)
    own = p[np.arange(50), labels]
    others = np.where(np.eye(4, dtype=bool)[labels], 0.0, p * np.log(1 - p)).sum(1)
    expected = (1 - own) * np.log(own) + others
    np.testing.assert_allclose(attacks.modified_entropy(logits, labels), expected)
    np.testing.assert_allclose(attacks.scaled_logit(logits, labels), np.log(own / (1 - own)))
    np.testing.assert_allclose(attacks.loss(logits, labels), np.log(own))


def test_modified_entropy_penalises_a_confident_wrong_prediction():
    logits = np.array([[20.0, 0.0], [20.0, 0.0]])
    labels = np.array([0, 1])
    plain, modified = attacks.entropy(logits, labels), attacks.modified_entropy(logits, labels)
    assert plain[0] == plain[1]
    assert modified[0] > -1e-6 and modified[1] < -20


def test_threshold_scores_of_extreme_logits_are_finite_and_ordered():
    logits = np.array([[2000.0, 0.0, -50.0], [1000.0, 0.0, -50.0]])
    labels = np.array([0, 0])
    for score in (*attacks.THRESHOLDS.values(), attacks.scaled_logit):
        assert np.isfinite(score(logits, labels)).all()
    assert attacks.scaled_logit(logits, labels).tolist() == [2000.0, 1000.0]


def test_threshold_scores_without_a_label_are_nan():
    logits, labels = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([-1, 1])
    for name in ("loss", "modified_entropy", "margin"):
        assert np.isnan(attacks.THRESHOLDS[name](logits, labels)).tolist() == [True, False]
    assert np.isfinite(attacks.entropy(logits, labels)).all()


def test_filled_replaces_nan_by_the_column_mean():
    columns = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [np.nan, 7.0, np.nan]])
    assert attacks.filled(columns).tolist() == [[1, 6, 0], [3, 5, 0], [2, 7, 0]]


def test_over_tasks_adds_scores():
    logits = {"a": np.array([[1.0, 0.0]]), "b": np.array([[0.0, 2.0, 0.0]])}
    labels = {"a": np.array([0]), "b": np.array([1])}
    total = attacks.over_tasks(attacks.margin, logits, labels)
    assert total == pytest.approx([3.0])
    assert attacks.scaled_logits(logits, labels).shape == (1, 2)


def answers(draw, sure, missing_members, missing_others):
    """Logits and labels of 2,000 members, who are answered right, and 2,000 others.

    Members' logits of their own class are larger by `sure`; labels are missing at these rates.
    """
    labels = draw.integers(0, 2, 4_000)
    logits = draw.normal(size=(4_000, 2))
    member = np.arange(4_000) < 2_000
    logits[np.arange(4_000), labels] += np.where(member, sure, 0.0)
    missing = draw.random(4_000) < np.where(member, missing_members, missing_others)
    return {"task": logits}, {"task": np.where(missing, -1, labels)}


def thresholds(logits, labels):
    return {name: over_tasks(score, logits, labels) for name, score in THRESHOLDS.items()}


def test_attack_scores_with_missing_labels_find_an_overfitted_model():
    split = halves(2_000, 2_000, 10)
    whole = thresholds(*answers(np.random.default_rng(10), 8.0, 0.0, 0.0))
    part = thresholds(*answers(np.random.default_rng(10), 8.0, 0.1, 0.1))
    for name in ("loss", "modified_entropy", "margin"):
        full, fewer = (
            reported(found[name], split)["tpr_at_fpr"]["0.05"] for found in (whole, part)
        )
        assert full["value"] > 0.9 and fewer["value"] == pytest.approx(full["value"], abs=0.03)


def test_threshold_attacks_ignore_labels_that_members_lack():
    split = halves(2_000, 2_000, 11)
    found = thresholds(*answers(np.random.default_rng(11), 0.0, 0.3, 0.0))
    for values in found.values():
        low, high = reported(values, split)["auc_ci95"]
        assert low <= 0.5 <= high


def test_lira_without_a_label_is_nan():
    draw = np.random.default_rng(12)
    shadows, saw = draw.normal(size=(4, 20, 1)), np.stack([seen_by(k, 10, 10, 0) for k in range(4)])
    observed, without = draw.normal(size=(20, 1)), np.arange(20) % 5 == 0
    kept = ~without
    for attack in (lira.offline, lira.online):
        found = attack(
            np.where(without[:, None], np.nan, observed),
            np.where(without[:, None], np.nan, shadows),
            saw,
        )
        assert np.isnan(found[without]).all()
        expected = attack(observed[kept], shadows[:, kept], saw[:, kept])
        np.testing.assert_allclose(found[kept], expected)


def test_attackable_leaves_out_attacks_with_few_rows():
    split = halves(100, 100, 13)
    scores = np.random.default_rng(13).normal(size=200)
    few = np.where(np.arange(200) < 6, scores, np.nan)
    assert set(attackable({("business", "all"): scores, ("business", "few"): few}, split)) == {
        ("business", "all")
    }


DP = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business"), 0.5)}


def test_reported_auc_of_random_scores_includes_a_half():
    split = halves(2_000, 2_000, 0)
    scores = np.random.default_rng(0).normal(size=4_000)
    found = reported(scores, split)
    assert found["auc_ci95"][0] <= 0.5 <= found["auc_ci95"][1]
    assert found["advantage_ci95"][0] <= 0 <= found["advantage_ci95"][1]
    for rate in ("0.01", "0.05"):
        low, high = found["tpr_at_fpr"][rate]["ci95"]
        assert low <= float(rate) <= high


def test_strongest_of_many_random_attacks_is_reported_at_chance():
    split, draw = halves(1_000, 1_000, 1), np.random.default_rng(1)
    scores = {("business", f"{k}"): draw.normal(size=2_000) for k in range(100)}
    found = summary(scores, split)
    best = found["strongest"]
    assert best["tpr_at_fpr"]["0.05"]["ci95"][0] <= 0.05
    # Chosen on the half that is reported, one of a hundred would look like a success.
    values = [f["tpr_at_fpr"]["0.05"]["ci95"][0] for f in found["business"].values()]
    assert max(values) > 0.05


def test_halves_split_both_sides_and_choose_by_one():
    split = halves(10, 20, 3)
    assert split.member.sum() == 10 and split.choosing.sum() == 15
    assert split.choosing[split.member].sum() == 5
    good, bad = np.zeros(30), np.zeros(30)
    good[split.member & split.choosing] = 1.0
    bad[split.member & ~split.choosing] = 1.0
    scores = {("business", "bad"): bad, ("release", "good"): good}
    assert strongest_attack(scores, split) == ("release", "good")
    assert reported(good, split)["auc"] == 0.5
    with pytest.raises(ValueError, match="4 members"):
        halves(3, 10, 0)


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_learned_scores_find_a_planted_difference_only(learner):
    split, draw = halves(400, 400, 2), np.random.default_rng(2)
    rows = draw.normal(size=(800, 80))
    noise = reported(learned_scores(learner, rows, split, 0), split)
    assert noise["auc_ci95"][0] <= 0.5 <= noise["auc_ci95"][1]
    rows[:, 7] += 4.0 * split.member
    assert reported(learned_scores(learner, rows, split, 0), split)["auc"] > 0.8


def test_learned_scores_on_the_choosing_half_are_cross_validated():
    split, draw = halves(300, 300, 4), np.random.default_rng(4)
    scores = learned_scores("trees", draw.normal(size=(600, 30)), split, 0)
    known = split.choosing
    # On its own training rows it would read close to 1.
    assert tpr_at(scores[known & split.member], scores[known & ~split.member], 0.05)[0] < 0.2


def test_learned_attack_equals_the_toolbox_on_the_same_outputs():
    draw = np.random.default_rng(5)
    split = halves(600, 600, 5)
    labels = draw.integers(0, 3, 1_200)
    logits = draw.normal(0, 1, (1_200, 3))
    logits[np.arange(1_200), labels] += np.where(split.member, 2.5, 0.5)
    one_hot = np.eye(3)[labels]
    rows = np.concatenate([logits, one_hot], axis=1)
    ours = reported(learned_scores("logistic", rows, split, 0), split)["auc"]

    classifier = BlackBoxClassifierNeuralNetwork(lambda x: x, (3,), 3, channels_first=False)
    attack = MembershipInferenceBlackBox(classifier, attack_model_type="lr")
    known, asked = split.choosing, ~split.choosing
    inside, outside = known & split.member, known & ~split.member
    attack.fit(logits[inside], one_hot[inside], logits[outside], one_hot[outside])
    guessed = attack.infer(logits[asked], one_hot[asked], probabilities=True).ravel()
    theirs = np.mean(guessed[split.member[asked]][:, None] > guessed[~split.member[asked]][None, :])
    assert ours > 0.6 and ours == pytest.approx(theirs, abs=0.03)


def test_lira_equals_hand_calculation():
    observed = np.array([[3.0]])
    shadows = np.array([[[2.0]], [[4.0]], [[0.0]], [[1.0]]])
    inside = np.array([[True], [True], [False], [False]])
    # Outside: mean 1/2, variance 1/2 of two values; inside: mean 3, variance 2.
    z = (3.0 - 0.5) / np.sqrt(0.5)
    assert lira.offline(observed, shadows, inside) == pytest.approx([z])
    expected = norm.logpdf(3.0, 3.0, np.sqrt(2)) - norm.logpdf(3.0, 0.5, np.sqrt(0.5))
    assert lira.online(observed, shadows, inside) == pytest.approx([expected])


def test_seen_by_gives_each_row_to_half_of_the_shadows():
    saw = np.stack([seen_by(k, 50, 50, 0) for k in range(6)])
    assert saw.sum(axis=1).tolist() == [50] * 6
    assert saw.sum(axis=0).tolist() == [3] * 100
    fewer = np.stack([seen_by(k, 50, 20, 0) for k in range(6)])
    assert fewer.sum(axis=1).tolist() == [50] * 6
    # Members that no other row can take the place of are always there.
    assert fewer.sum(axis=0).tolist() == [3] * 20 + [6] * 30 + [3] * 20
    with pytest.raises(ValueError, match="non_members=60"):
        seen_by(0, 50, 60, 0)


def ridge(rows, labels, seen):
    """Weights of a linear classifier with more columns than rows: it fits any labels."""
    x, y = rows[seen], 2.0 * labels[seen] - 1
    kernel = x @ x.T + 1e-3 * np.eye(len(x))
    return x.T @ np.linalg.solve(kernel, y)


def test_lira_catches_a_model_overfitted_to_200_rows():
    """Labels are coin tosses, so a right and certain answer can only come from memory.

    With 4,000 columns and 200 rows the model fits every label exactly (margin 1) and gives other
    rows a margin of deviation sqrt(200 / 4,000) = 0.22 about 0: four deviations apart, of which the
    attack must find at least half at 1 % FPR. The same attack on a model that was trained on none
    of these rows finds nobody, so it is memory that it finds.
    """
    draw = np.random.default_rng(7)
    rows, labels = draw.normal(size=(600, 4_000)) / np.sqrt(4_000), draw.integers(0, 2, 600)
    member, pool = np.arange(400) < 200, np.arange(600) < 400

    def logit(weights):
        sure = 6 * (rows[pool] @ weights)
        return scaled_logit(np.stack([-sure, sure], axis=1), labels[pool])[:, None]

    weights, stranger = ridge(rows, labels, np.arange(200)), ridge(rows, labels, ~pool)
    assert ((rows[:200] @ weights > 0) == labels[:200]).all()
    saw = np.stack([seen_by(k, 200, 200, 0) for k in range(16)])
    shadows = np.stack([logit(ridge(rows, labels, np.flatnonzero(seen))) for seen in saw])
    for attack in (lira.offline, lira.online):
        scores, others = (attack(logit(model), shadows, saw) for model in (weights, stranger))
        assert tpr_at(scores[member], scores[~member], 0.01)[0] >= 0.5
        assert tpr_at(others[member], others[~member], 0.01)[0] < 0.1


def test_max_tpr_equals_hand_calculation():
    assert max_tpr(0.5, 0.0, 0.05) == pytest.approx(0.05 * np.exp(0.5))
    assert max_tpr(0.0, 0.0, 0.3) == pytest.approx(0.3)
    # Past the point where both lines cross, the other one bounds it.
    assert max_tpr(1.0, 0.0, 0.6) == pytest.approx(1 - np.exp(-1) * 0.4)
    assert max_tpr(800.0, 0.0, 0.01) == 1.0


def test_claimed_is_none_without_an_epsilon_of_every_part():
    split = halves(500, 500, 8)
    perfect = split.member + np.random.default_rng(8).normal(0, 0.1, 1_000)
    scores = {("business", "loss"): perfect, ("release", "loss"): perfect}
    found = contradictions(scores, split, DP)
    assert len(found) == 1 and found[0].startswith(
        "business: the attack loss has a TPR of at least"
    )
    # By hand: all 250 members are caught, and a few of 250 others.
    least, most, cap = (float(text) / 100 for text in re.findall(r"([\d.]+)%", found[0]))
    assert least > 0.97 and 0.01 < most < 0.08
    assert cap == pytest.approx(np.exp(0.5) * most, abs=1e-3)
    useless = {name: np.random.default_rng(9).normal(size=1_000) for name in scores}
    assert contradictions(useless, split, DP) == []
    assert contradictions(scores, split, {**DP, "void": True}) == []
    assert contradictions(scores, split, None) == []
    assert claimed("release", DP) is None and claimed("features", DP) == 0.5


@pytest.mark.parametrize(("members", "others"), [(388, 115), (60, 20), (2_000, 400)])
def test_contradictions_of_random_scores_are_empty(members, others):
    draw, runs, wrong = np.random.default_rng(18), 200, 0
    dp = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business", "restorer"), 0.5)}
    dp["released"]["discriminator"] = 0.5
    for seed in range(runs):
        split = halves(members, others, seed)
        names = [("business", str(k)) for k in range(5)] + [("features", "a"), ("release", "a")]
        scores = {name: draw.normal(size=members + others) for name in names}
        wrong += bool(contradictions(scores, split, dp))
    # 5 % of them at most, and four deviations of that count.
    assert wrong / runs <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)


def test_contradictions_count_attacks_on_parts():
    split = halves(500, 500, 8)
    draw = np.random.default_rng(8)
    perfect = split.member + draw.normal(0, 0.1, 1_000)
    parts = ("encoder", "business", "restorer", "discriminator")
    dp = {"delta": 1e-5, "released": dict.fromkeys(parts, 0.5)}
    scores = {("business", "loss"): perfect, ("release", "trees"): draw.normal(size=1_000)}
    assert [text.split(":")[0] for text in contradictions(scores, split, dp)] == [
        "business",
        "release",
    ]


def test_operating_points_equal_hand_calculation():
    split = halves(40, 200, 3)
    scores = np.where(split.member, 2.0, np.linspace(0.0, 1.0, 240))
    ((least, most),) = operating_points(scores, split, [0.05])
    others = scores[split.choosing & ~split.member]
    threshold = np.sort(others)[-5]
    alarms = int((scores[~split.choosing & ~split.member] > threshold).sum())
    # One-sided, 2.5 % each; all 20 members of the half are above.
    assert least == pytest.approx(binomtest(20, 20).proportion_ci(0.95).low)
    assert most == pytest.approx(binomtest(alarms, 100).proportion_ci(0.95).high)


def test_contradictions_at_one_in_a_thousand_need_enough_non_members():
    split = halves(200, 20_000, 16)
    scores = split.member + np.random.default_rng(16).normal(0, 0.01, 20_200)
    # A TPR of 1 is allowed at 1 % and at 5 % by this epsilon, and not at 0.1 %.
    dp = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business"), 4.6)}
    assert max_tpr(4.6, 1e-5, 0.01) > 0.98 > 0.2 > max_tpr(4.6, 1e-5, 0.001)
    (found,) = contradictions({("business", "lira"): scores}, split, dp)
    assert "FPR of at most 0.2%" in found
    pool = np.where(np.random.default_rng(17).random(20_200) < 0.9, scores, np.nan)
    assert contradictions({("business", "lira"): pool}, split, dp) == []
    assert reported(pool, split)["non_members"] < 10_000 == reported(scores, split)["non_members"]
