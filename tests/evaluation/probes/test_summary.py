"""Learning curves and the power of attackers, on targets with a known answer."""

import dataclasses
import types

import numpy as np
import pytest

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack, strongest
from tf_mtl_privacy.evaluation.probes.bounds import pack
from tf_mtl_privacy.evaluation.probes.data import AttackRows, figures
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.run import _Probe
from tf_mtl_privacy.evaluation.probes.summary import (
    learning_curve,
    not_measured,
    patience,
    planted,
    power,
    probe_summary,
    target_summary,
)

CLASSES, TESTS = 8, 2000
LABELS = (np.arange(TESTS) % CLASSES).astype(np.int32)


def reading_of(rate, rng, rows=0):
    """An attacker that gets each test row right with probability `rate`."""
    right = rng.random(TESTS) < rate
    answers = np.where(right, LABELS, (LABELS + 1) % CLASSES)
    test = figures(np.eye(CLASSES)[answers], LABELS)
    return Reading("soft", rate, test, rows, pack(right))


def curve_of(rates, seed=0):
    rng, sizes = np.random.default_rng(seed), [2500, 5000, 10000]
    readings = [reading_of(rate, rng, size) for rate, size in zip(rates, sizes, strict=True)]
    return learning_curve(readings, sizes, LABELS)


@pytest.mark.parametrize(
    ("rates", "trend"),
    [
        ((0.125, 0.125, 0.125), "flat"),
        ((0.5, 0.8, 0.8), "flat"),
        ((0.125, 0.125, 0.3), "still rising"),
        ((0.3, 0.4, 0.5), "still rising"),
        ((0.9, 0.9, 0.9), "flat"),
        ((0.13, 0.2, 0.17), "flat"),
    ],
)
def test_learning_curve_with_a_last_gain_is_rising(rates, trend):
    found = curve_of(rates)
    assert found["trend"] == trend and found["trend_words"].startswith(trend)
    assert [point["rows"] for point in found["curve"]] == [2500, 5000, 10000]
    assert "from 5,000 to 10,000 rows" in found["trend_words"]
    for point, rate in zip(found["curve"], rates, strict=True):
        low, high = point["balanced_ci95"]
        assert low <= point["balanced_accuracy"] <= high
        assert abs(point["balanced_accuracy"] - rate) < 0.04


def test_learning_curve_with_a_slow_steady_gain_is_rising():
    """A gain of two points for each doubling, with an interval of 2.1 points on either side."""
    rising = [
        curve_of((0.125, 0.145, 0.165), seed)["trend"] == "still rising" for seed in range(60)
    ]
    assert np.mean(rising) > 0.7


def test_learning_curve_on_few_test_rows_is_not_clear(monkeypatch):
    """A gain of seven points in the last doubling, on 100 test rows: mostly within its interval."""
    monkeypatch.setattr(f"{__name__}.TESTS", 100)
    monkeypatch.setattr(f"{__name__}.LABELS", LABELS[:100])
    found = [curve_of((0.125, 0.125, 0.195), seed) for seed in range(100)]
    trends = [curve["trend"] for curve in found]
    assert trends.count("flat") <= 10 and trends.count("not clear") > 50
    words = next(c["trend_words"] for c in found if c["trend"] == "not clear")
    assert words.startswith("not clear: from 5,000") and "100 test rows are too few" in words
    # A curve over updates that is not clear is not flat.
    assert patience({"curve": [], "trend": "not clear", "trend_words": words}, 3)["patience"] == {
        "checked": True,
        "flat": False,
        "reason": f"{words}, best of 3 random starts by validation rows",
    }


def test_learning_curve_at_chance_is_seldom_rising():
    rising = [curve_of((0.125,) * 3, seed)["trend"] == "still rising" for seed in range(400)]
    # Two tests of 2.5 % each; 5 % in all at most, and 2.5 standard deviations of 400 draws.
    assert np.mean(rising) < 0.05 + 2.5 * (0.05 * 0.95 / 400) ** 0.5


def probed(tiny, shape, leak, rows, **changes):
    """`_Probe` with one network that hands its pictures on; only what a curve reads is there."""
    setting = dataclasses.replace(tiny, curves=("features",), **changes)
    data = make_target(shape, rows, leak=leak)
    train = types.SimpleNamespace(labels=data.train_labels)
    bundles = {"": types.SimpleNamespace(discriminator=None)}
    given = {"unseen": AttackRows(train, None, None)}
    probe = _Probe(
        bundles,
        given,
        {"own": "no"},
        data.classes,
        setting,
        0,
        lambda n: None,
        lambda key, make: make(),
    )
    return probe, data


def test_probe_curve_of_a_leak_that_needs_rows_is_rising(tiny_fast):
    """Of 600 numbers each says a little: twice the rows read more of it."""
    probe, data = probed(tiny_fast, (10, 10, 6), 0.05, (480, 200, 1500), dimensions=400)
    names = ("logistic_standardised",)
    readings = {"unseen": attack(data, names, attackers(), probe.budget, 0)}
    found = probe._with_curves(readings, {"unseen": data})
    points = [point["balanced_accuracy"] for point in found["curve"]]
    assert points[0] < points[1] < points[2] and found["trend"] == "still rising"


def test_probe_curve_of_a_leak_read_from_few_rows_is_flat(tiny_fast):
    probe, data = probed(tiny_fast, (4, 4, 2), 1.0, (480, 200, 400))
    readings = {"unseen": attack(data, ("logistic_standardised",), attackers(), probe.budget, 0)}
    found = probe._with_curves(readings, {"unseen": data})
    assert found["trend"] == "flat" and found["curve"][-1]["rows"] == 480


def test_probe_trained_for_longer_finds_a_missed_pattern(tiny_fast):
    """A network that stops early sits at chance: more updates read the pattern."""
    quick = {"restarts": 2, "patience": 8, "epochs": 1, "width": 4, "name": "thorough"}
    probe, data = probed(tiny_fast, (6, 6, 4), 0.4, (400, 200, 600), **quick)
    readings = {"unseen": attack(data, ("positional_cnn_whitened",), attackers(), probe.budget, 0)}
    before = readings["unseen"][0].test["balanced_accuracy"]
    found = probe._with_curves(readings, {"unseen": data})
    points = found["updates_curve"]
    assert [p["updates"] for p in points] == [6, 24, 48]
    assert [len(p["starts"]) for p in points] == [2] * 3
    assert points[-1]["balanced_accuracy"] > before + 0.2
    patience = found["patience"]
    assert (patience["checked"], patience["flat"]) == (True, False)
    assert "best of 2 random starts" in patience["reason"]
    # What they read is what counts.
    best = found["strongest"]
    assert best["name"] in ("positional_cnn_whitened_x4", "positional_cnn_whitened_x8")
    assert best["balanced_accuracy"] == max(p["balanced_accuracy"] for p in points)
    assert found["bound"]["attackers"] == 3


def test_planted_adds_a_tenth_of_each_deviation():
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


def test_planted_leak_is_found_in_features_of_usual_size(tiny_fast):
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
def test_power_names_each_missed_threshold(figures, missed):
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
def test_power_with_few_rows_is_underpowered(rows, classes, too_few):
    found = power(STRONG, {"features": target(rows=rows)}, classes=classes)
    assert found["underpowered"] is too_few
    assert [f"learned from {rows:,} rows" in r for r in found["underpowered_reasons"]] == (
        [True] if too_few else []
    )


def test_power_counts_the_larger_kind_of_rows():
    parts = {"unseen": {"rows": 900}, "own": {"rows": 7200}}
    few = target(rows=900) | {"by_rows": parts}
    assert power(STRONG, {"features": few}, classes=8)["underpowered"] is False


@pytest.mark.parametrize("name", ["features", "restored", "masked_pictures"])
def test_power_with_a_rising_curve_is_underpowered(name):
    rising = target(trend="still rising", trend_words="still rising: +5 points")
    targets = {"features": target(), name: rising}
    (reason,) = power(STRONG, targets, classes=8)["underpowered_reasons"]
    assert name.replace("_", " ") in reason and "still rising: +5 points" in reason
    flat = target(trend="flat", trend_words="flat")
    assert power(STRONG, {"features": target(), name: flat}, classes=8)["underpowered"] is False


def test_power_with_a_rising_updates_curve_is_underpowered():
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
def test_power_at_chance_after_a_game_requires_longer_training(game, accuracy, checked, listed):
    patience = {"checked": checked, "flat": True if checked else None, "reason": ""}
    features = target(accuracy, patience=patience)
    found = power(STRONG, {"features": features}, classes=8, game=game)
    assert found["not_checked"] == (["patience"] if listed else [])
    assert found["underpowered"] is False


def reading(name, validation, accuracy):
    test = {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.01, "ci95": [0, 1], "n": 9}
    return Reading(name, validation, test)


def test_probe_summary_has_its_keys():
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
