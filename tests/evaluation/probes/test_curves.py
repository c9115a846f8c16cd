"""Learning curves: a rise is seen, a plateau and chance are not taken for one."""

import dataclasses
import types

import numpy as np
import pytest

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack
from tf_mtl_privacy.evaluation.probes.bounds import pack
from tf_mtl_privacy.evaluation.probes.data import AttackRows, figures
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.run import _Probe
from tf_mtl_privacy.evaluation.probes.summary import learning_curve, patience

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
def test_a_curve_rises_where_the_last_doubling_gains(rates, trend):
    found = curve_of(rates)
    assert found["trend"] == trend and found["trend_words"].startswith(trend)
    assert [point["rows"] for point in found["curve"]] == [2500, 5000, 10000]
    assert "from 5,000 to 10,000 rows" in found["trend_words"]
    for point, rate in zip(found["curve"], rates, strict=True):
        low, high = point["balanced_ci95"]
        assert low <= point["balanced_accuracy"] <= high
        assert abs(point["balanced_accuracy"] - rate) < 0.04


def test_slow_steady_rise_is_seen_though_no_doubling_shows_it_alone():
    """Two points a doubling, of which the interval is 2.1 points wide on either side."""
    rising = [
        curve_of((0.125, 0.145, 0.165), seed)["trend"] == "still rising" for seed in range(60)
    ]
    assert np.mean(rising) > 0.7


def test_few_test_rows_are_not_taken_for_a_flat_curve(monkeypatch):
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


def test_chance_is_seldom_taken_for_a_rise():
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


def test_linear_leak_that_needs_rows_is_still_rising(tiny_fast):
    """Of 600 numbers each says a little: twice the rows read more of it."""
    probe, data = probed(tiny_fast, (10, 10, 6), 0.05, (480, 200, 1500), dimensions=400)
    names = ("logistic_standardised",)
    readings = {"unseen": attack(data, names, attackers(), probe.budget, 0)}
    found = probe._with_curves(readings, {"unseen": data})
    points = [point["balanced_accuracy"] for point in found["curve"]]
    assert points[0] < points[1] < points[2] and found["trend"] == "still rising"


def test_leak_that_is_read_from_few_rows_is_flat(tiny_fast):
    probe, data = probed(tiny_fast, (4, 4, 2), 1.0, (480, 200, 400))
    readings = {"unseen": attack(data, ("logistic_standardised",), attackers(), probe.budget, 0)}
    found = probe._with_curves(readings, {"unseen": data})
    assert found["trend"] == "flat" and found["curve"][-1]["rows"] == 480


def test_patient_attackers_read_what_quick_ones_do_not(tiny_fast):
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
