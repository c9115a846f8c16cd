"""The attacks on cases whose answer is known: strangers, a planted sign, a memorised set."""

import re

import numpy as np
import pytest
from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
from art.estimators.classification import BlackBoxClassifierNeuralNetwork
from scipy.stats import binomtest, norm

from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.attacks import (
    LEARNERS,
    halves,
    learned_scores,
    operating_points,
    reported,
    scaled_logit,
    strongest_attack,
)
from tf_mtl_privacy.evaluation.membership.claims import claimed, contradictions, max_tpr
from tf_mtl_privacy.evaluation.membership.lira import seen_by
from tf_mtl_privacy.evaluation.membership.roc import tpr_at
from tf_mtl_privacy.evaluation.membership.run import summary

DP = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business"), 0.5)}


def test_exchangeable_scores_give_a_half_within_the_interval():
    split = halves(2_000, 2_000, 0)
    scores = np.random.default_rng(0).normal(size=4_000)
    found = reported(scores, split)
    assert found["auc_ci95"][0] <= 0.5 <= found["auc_ci95"][1]
    assert found["advantage_ci95"][0] <= 0 <= found["advantage_ci95"][1]
    for rate in ("0.01", "0.05"):
        low, high = found["tpr_at_fpr"][rate]["ci95"]
        assert low <= float(rate) <= high


def test_the_best_of_many_useless_attacks_is_still_useless_where_it_is_reported():
    split, draw = halves(1_000, 1_000, 1), np.random.default_rng(1)
    scores = {("business", f"{k}"): draw.normal(size=2_000) for k in range(100)}
    found = summary(scores, split)
    best = found["strongest"]
    assert best["tpr_at_fpr"]["0.05"]["ci95"][0] <= 0.05
    # Chosen on the half that is reported, one of a hundred would look like a success.
    values = [f["tpr_at_fpr"]["0.05"]["ci95"][0] for f in found["business"].values()]
    assert max(values) > 0.05


def test_halves_are_of_both_sides_and_the_choice_is_by_one_of_them():
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
def test_learners_find_a_planted_sign_and_nothing_in_noise(learner):
    split, draw = halves(400, 400, 2), np.random.default_rng(2)
    rows = draw.normal(size=(800, 80))
    noise = reported(learned_scores(learner, rows, split, 0), split)
    assert noise["auc_ci95"][0] <= 0.5 <= noise["auc_ci95"][1]
    rows[:, 7] += 4.0 * split.member
    assert reported(learned_scores(learner, rows, split, 0), split)["auc"] > 0.8


def test_a_learner_that_remembers_does_not_fool_the_choice():
    split, draw = halves(300, 300, 4), np.random.default_rng(4)
    scores = learned_scores("trees", draw.normal(size=(600, 30)), split, 0)
    known = split.choosing
    # On its own training rows it would read close to 1.
    assert tpr_at(scores[known & split.member], scores[known & ~split.member], 0.05)[0] < 0.2


def test_learned_attack_agrees_with_the_toolbox_on_the_same_outputs():
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


def test_lira_scores_worked_by_hand():
    observed = np.array([[3.0]])
    shadows = np.array([[[2.0]], [[4.0]], [[0.0]], [[1.0]]])
    inside = np.array([[True], [True], [False], [False]])
    # Outside: mean 1/2, variance 1/2 of two values; inside: mean 3, variance 2.
    z = (3.0 - 0.5) / np.sqrt(0.5)
    assert lira.offline(observed, shadows, inside) == pytest.approx([z])
    expected = norm.logpdf(3.0, 3.0, np.sqrt(2)) - norm.logpdf(3.0, 0.5, np.sqrt(0.5))
    assert lira.online(observed, shadows, inside) == pytest.approx([expected])


def test_every_shadow_sees_as_many_rows_as_the_model_and_every_row_is_in_half_of_them():
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


def test_a_model_that_memorised_200_examples_is_caught():
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


def test_what_an_epsilon_allows_worked_by_hand():
    assert max_tpr(0.5, 0.0, 0.05) == pytest.approx(0.05 * np.exp(0.5))
    assert max_tpr(0.0, 0.0, 0.3) == pytest.approx(0.3)
    # Past the point where both lines cross, the other one bounds it.
    assert max_tpr(1.0, 0.0, 0.6) == pytest.approx(1 - np.exp(-1) * 0.4)
    assert max_tpr(800.0, 0.0, 0.01) == 1.0


def test_only_what_is_released_with_an_epsilon_can_be_contradicted():
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
def test_scores_that_say_nothing_contradict_no_claim(members, others):
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


def test_an_attack_on_a_part_counts_against_the_claim_on_the_whole():
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


def test_the_bounds_at_an_operating_point_by_hand():
    split = halves(40, 200, 3)
    scores = np.where(split.member, 2.0, np.linspace(0.0, 1.0, 240))
    ((least, most),) = operating_points(scores, split, [0.05])
    others = scores[split.choosing & ~split.member]
    threshold = np.sort(others)[-5]
    alarms = int((scores[~split.choosing & ~split.member] > threshold).sum())
    # One-sided, 2.5 % each; all 20 members of the half are above.
    assert least == pytest.approx(binomtest(20, 20).proportion_ci(0.95).low)
    assert most == pytest.approx(binomtest(alarms, 100).proportion_ci(0.95).high)


def test_one_in_a_thousand_is_only_tested_with_enough_scored_non_members():
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
