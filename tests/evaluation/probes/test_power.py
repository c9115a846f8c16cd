"""Whether attackers could have found something."""

import numpy as np
import pytest

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack, strongest
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.summary import (
    not_measured,
    planted,
    power,
    probe_summary,
    target_summary,
)


def test_a_planted_leak_is_a_tenth_of_each_deviation():
    data = make_target(rows=(300, 90, 90))
    found = planted(data, seed=0)
    size = 0.1 * data.train.std(axis=0)
    for part in ("train", "validation", "test"):
        added = getattr(found, part) - getattr(data, part)
        labels = getattr(found, f"{part}_labels")
        np.testing.assert_allclose(np.abs(added), np.broadcast_to(size, added.shape), atol=1e-5)
        for label in range(3):
            # One pattern for a class, in every part.
            signs = np.sign(added[labels == label])
            assert (signs == signs[0]).all()
        assert np.bincount(labels).tolist() == [len(labels) // 3] * 3
    # The old labels do not help: about a third agree.
    assert np.mean(found.train_labels == data.train_labels) < 0.45


def test_a_planted_leak_is_found_in_features_of_the_usual_size(tiny_fast):
    data = make_target(shape=(12, 12, 16), rows=(400, 150, 200), classes=4)
    leaked = planted(data, seed=1)
    found = attack(leaked, tiny_fast.planted, attackers(), tiny_fast, seed=0)
    assert strongest(found).test["balanced_accuracy"] > 0.75
    before = attack(data, tiny_fast.planted, attackers(), tiny_fast, seed=0)
    low, high = strongest(before).test["ci95"]
    assert low < 0.25 < high


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ((0.85, 0.75, 0.75), []),
        ((0.849, 0.75, 0.75), ["pixels"]),
        ((0.9, 0.749, None), ["a planted leak"]),
        ((0.9, 0.8, 0.7), ["removal off"]),
        ((0.1, 0.1, 0.1), ["pixels", "a planted leak", "removal off"]),
    ],
)
def test_each_bar_that_is_missed_is_named(figures, missed):
    found = power(dict(zip(("pixels", "planted", "removal_off"), figures, strict=True)))
    assert found["underpowered"] is bool(missed)
    assert len(found["underpowered_reasons"]) == len(missed)
    for words, reason in zip(missed, found["underpowered_reasons"], strict=True):
        assert words in reason
    assert found["not_checked"] == (["removal_off"] if figures[2] is None else [])


def target(accuracy=0.125, rows=10_000, **more):
    """Features as `summary.joined_summary` gives them, as far as power reads them."""
    interval = [accuracy - 0.01, accuracy + 0.01]
    best = {"balanced_accuracy": accuracy, "ci95": interval, "balanced_ci95": interval}
    return {"strongest": best, "rows": rows, "by_rows": {"own": {"rows": rows}}, **more}


STRONG = {"pixels": 0.99, "planted": 0.99, "removal_off": 0.99}


@pytest.mark.parametrize(
    ("rows", "classes", "too_few"),
    [(2000, 8, False), (1999, 8, True), (900, 8, True), (2000, 100, False), (3999, 200, True)],
)
def test_attackers_with_few_rows_are_underpowered(rows, classes, too_few):
    found = power(STRONG, {"features": target(rows=rows)}, classes=classes)
    assert found["underpowered"] is too_few
    assert [f"learned from {rows:,} rows" in r for r in found["underpowered_reasons"]] == (
        [True] if too_few else []
    )


def test_the_larger_kind_of_rows_counts():
    parts = {"unseen": {"rows": 900}, "own": {"rows": 7200}}
    few = target(rows=900) | {"by_rows": parts}
    assert power(STRONG, {"features": few}, classes=8)["underpowered"] is False


@pytest.mark.parametrize("name", ["features", "restored", "masked_pictures"])
def test_a_rising_curve_is_no_claim(name):
    rising = target(trend="still rising", trend_words="still rising: +5 points")
    targets = {"features": target(), name: rising}
    (reason,) = power(STRONG, targets, classes=8)["underpowered_reasons"]
    assert name.replace("_", " ") in reason and "still rising: +5 points" in reason
    flat = target(trend="flat", trend_words="flat")
    assert power(STRONG, {"features": target(), name: flat}, classes=8)["underpowered"] is False


def test_a_curve_over_updates_that_rises_is_no_claim():
    patience = {"checked": True, "flat": False, "reason": "still rising: +9 points"}
    found = power(STRONG, {"features": target(patience=patience)}, classes=8)
    assert found["underpowered"] and "+9 points" in found["underpowered_reasons"][0]


@pytest.mark.parametrize(
    ("game", "accuracy", "checked", "listed"),
    [
        (True, 0.125, False, True),
        (True, 0.125, True, False),
        (True, 0.4, False, False),
        (False, 0.125, False, False),
    ],
)
def test_patience_is_asked_for_at_chance_behind_a_game(game, accuracy, checked, listed):
    patience = {"checked": checked, "flat": True if checked else None, "reason": ""}
    features = target(accuracy, patience=patience)
    found = power(STRONG, {"features": features}, classes=8, game=game)
    assert found["not_checked"] == (["patience"] if listed else [])
    assert found["underpowered"] is False


def reading(name, validation, accuracy):
    test = {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.01, "ci95": [0, 1], "n": 9}
    return Reading(name, validation, test)


def test_keys_of_the_summary():
    weak, strong = reading("weak", 0.2, 0.5), reading("strong", 0.3, 0.4)
    features = target_summary([weak, strong], "unseen", 6000)
    assert features["strongest"] == {"name": "strong", **strong.test}
    assert features["attackers"]["weak"] == {"accuracy": 0.5, "balanced_accuracy": 0.49}
    pixels = target_summary([reading("a", 1, 0.99)], "unseen", 6000)
    targets = {"features": features, "pixels": pixels, "restored": not_measured("no restorer")}
    found = probe_summary("fast", targets, None, 12.345)
    assert found["setting"] == "fast" and found["seconds"] == 12.3
    assert found["restored"] == {"strongest": None, "reason": "no restorer"}
    assert found["removal_off"] == {"strongest": None}
    assert found["underpowered"] is False and found["not_checked"] == ["planted", "removal_off"]
    off = {"name": "x", "accuracy": 0.8, "balanced_accuracy": 0.6, "ci95": [0, 1], "n": 9}
    found = probe_summary("fast", targets, off, 1)
    assert found["removal_off"]["strongest"]["accuracy"] == 0.8
    assert found["underpowered"] is True
