"""The check that members and non-members are drawn alike, and the verdict on figures."""

import numpy as np

from tf_mtl_privacy.evaluation.membership.attacks import halves
from tf_mtl_privacy.evaluation.membership.claims import known_without_model, same_distribution
from tf_mtl_privacy.evaluation.membership.verdict import verdict


def test_same_distribution_with_other_pictures_differs():
    split, draw = halves(300, 300, 6), np.random.default_rng(6)
    pictures = draw.normal(size=(600, 40))
    alike = same_distribution(pictures, split, 0)
    assert alike["ok"] and alike["ci95"][0] <= 0.5
    pictures[split.member] *= 1.5
    found = same_distribution(pictures, split, 0)
    assert not found["ok"] and found["state"] == "differ"


def test_same_distribution_with_few_rows_is_not_shown():
    draw, states = np.random.default_rng(14), []
    for count in (40, 2_000):
        rows = draw.normal(size=(2 * count, 5))
        found = same_distribution(rows, halves(count, count, 14), 0)
        assert found["ok"] and found["ci95"][0] <= 0.5
        states.append(found["state"])
    assert states == ["not_shown", "alike"]


def test_same_distribution_with_other_or_missing_labels_differs():
    split, draw = halves(500, 500, 15), np.random.default_rng(15)
    pictures, labels = draw.normal(size=(1_000, 5)), draw.integers(0, 2, 1_000)
    known = np.zeros(1_000, int)
    lacking = np.where(split.member & (draw.random(1_000) < 0.3), -1, labels)
    skewed = np.where(split.member & (draw.random(1_000) < 0.3), 1, labels)
    for task, private, differ in [
        (labels, known, False),
        (lacking, known, True),
        (skewed, known, True),
        (labels, np.where(lacking < 0, -1, 0), True),
    ]:
        rows = known_without_model(pictures, {"task": task}, private)
        assert (same_distribution(rows, split, 0)["state"] == "differ") == differ


def test_verdict_by_samples_and_reference_run():
    def found(state, ok=True):
        return {"data": {"same_distribution": {"state": state, "ok": ok}}}

    def power(low):
        at = {"0.05": {"value": low + 0.1, "ci95": [low, low + 0.2]}}
        best = {"target": "business", "attack": "loss", "tpr_at_fpr": at}
        return {"run_dir": "heart", "data": {}, **best}

    for state, run, expected in [
        ("differ", power(0.8), "invalid"),
        ("not_shown", power(0.8), "no_power"),
        ("alike", None, "no_power"),
        ("alike", power(0.04), "no_power"),
        ("alike", power(0.06), "no_power"),
        ("alike", power(0.8), "ok"),
    ]:
        assert verdict(found(state), run)["verdict"] == expected
