"""Whether attackers could have found something."""

import numpy as np
import pytest

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack, strongest
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.power import planted, power
from tf_mtl_privacy.evaluation.probes.summary import not_measured, probe_summary, target_summary


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
