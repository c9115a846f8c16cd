"""Labels that are missing neither hide memory nor look like it."""

import numpy as np
import pytest

from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.attacks import (
    THRESHOLDS,
    attackable,
    halves,
    over_tasks,
    reported,
)
from tf_mtl_privacy.evaluation.membership.lira import seen_by


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


def test_missing_labels_do_not_hide_a_model_that_remembers():
    split = halves(2_000, 2_000, 10)
    whole = thresholds(*answers(np.random.default_rng(10), 8.0, 0.0, 0.0))
    part = thresholds(*answers(np.random.default_rng(10), 8.0, 0.1, 0.1))
    for name in ("loss", "modified_entropy", "margin"):
        full, fewer = (
            reported(found[name], split)["tpr_at_fpr"]["0.05"] for found in (whole, part)
        )
        assert full["value"] > 0.9 and fewer["value"] == pytest.approx(full["value"], abs=0.03)


def test_labels_that_members_lack_more_often_are_not_taken_for_memory():
    split = halves(2_000, 2_000, 11)
    found = thresholds(*answers(np.random.default_rng(11), 0.0, 0.3, 0.0))
    for values in found.values():
        low, high = reported(values, split)["auc_ci95"]
        assert low <= 0.5 <= high


def test_lira_leaves_rows_without_a_label_alone():
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


def test_an_attack_that_scored_too_few_rows_is_left_out():
    split = halves(100, 100, 13)
    scores = np.random.default_rng(13).normal(size=200)
    few = np.where(np.arange(200) < 6, scores, np.nan)
    assert set(attackable({("business", "all"): scores, ("business", "few"): few}, split)) == {
        ("business", "all")
    }
