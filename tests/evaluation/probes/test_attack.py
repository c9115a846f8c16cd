"""All attackers on targets whose answer is known, and how the strongest is chosen."""

import dataclasses

import numpy as np
import pytest

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack, strongest
from tf_mtl_privacy.evaluation.probes.budget import FAST, PROBE_BUDGETS, THOROUGH
from tf_mtl_privacy.evaluation.probes.data import ClassScores
from tf_mtl_privacy.evaluation.probes.families import (
    FAMILIES,
    attackers,
    reads_maps_only,
    register_probe,
)
from tf_mtl_privacy.evaluation.training_checks import CHECK
from tf_mtl_privacy.models.heads import build_discriminator
from tf_mtl_privacy.models.layers import layer_seed


@pytest.fixture(scope="module")
def known():
    return attackers(build_discriminator((6, 6, 4), 3, shape="conv", units=8))


def test_budgets_name_known_attackers_only(known):
    for setting in PROBE_BUDGETS.values():
        for names in (setting.features, setting.untrained, setting.features_again):
            assert set(names) <= set(known)
        # Shapes that D does not read.
        assert set(setting.images + setting.pixels) <= set(attackers())
        assert set(setting.planted + setting.logits) <= set(attackers())
    assert set(FAST.features) <= set(THOROUGH.features)
    # What says that attackers have power, or that training may end, is no other attacker.
    assert set(FAST.untrained) | set(CHECK.features) <= set(FAST.features)
    # Whichever kind of rows there are more of: no attacker of the check is left out of the other.
    assert set(CHECK.features) <= set(FAST.features_again) <= set(THOROUGH.features)
    assert set(THOROUGH.untrained) <= set(THOROUGH.features)
    assert {name.partition("_")[0] for name in known} == {
        name.partition("_")[0] for name in THOROUGH.features
    }
    assert THOROUGH.restarts >= 3


HARD = pytest.param("tiny_thorough", marks=pytest.mark.slow)


@pytest.mark.parametrize("effort", ["tiny_fast", HARD])
def test_attack_on_noise_is_at_chance(known, effort, request):
    setting = request.getfixturevalue(effort)
    data = make_target(rows=(240, 120, 400))
    found = attack(data, setting.features, known, setting, seed=0)
    assert [reading.name for reading in found] == list(setting.features)
    low, high = strongest(found).test["ci95"]
    assert low < 1 / 3 < high
    # 5 standard deviations of 400 fair guesses.
    assert all(abs(r.test["accuracy"] - 1 / 3) < 0.12 for r in found)


@pytest.mark.parametrize("effort", ["tiny_fast", HARD])
def test_attack_on_a_pattern_finds_it_with_every_attacker(known, effort, request):
    tiny = request.getfixturevalue(effort)
    setting = dataclasses.replace(tiny, epochs=5, dense_epochs=8, rounds=10, restarts=1)
    data = make_target(rows=(480, 120, 200), leak=1.0)
    found = attack(data, setting.features, known, setting, seed=0)
    assert {r.name: r.test["accuracy"] for r in found if r.test["accuracy"] < 0.7} == {}
    assert strongest(found).test["accuracy"] > 0.97


@pytest.mark.parametrize("name", ["logistic_standardised", "mlp_whitened", "patch_cnn_whitened"])
def test_attack_on_scaled_down_rows_is_as_accurate(known, tiny_fast, name):
    data = make_target(rows=(480, 120, 300), leak=0.5)
    parts = ("train", "validation", "test")
    small = dataclasses.replace(data, **{p: getattr(data, p) * np.float32(1e-3) for p in parts})
    setting = dataclasses.replace(tiny_fast, epochs=4, dense_epochs=6)
    plain, scaled = (attack(d, [name], known, setting, seed=0)[0].test for d in (data, small))
    assert plain["accuracy"] > 0.6
    assert scaled["accuracy"] == pytest.approx(plain["accuracy"], abs=0.03)


def test_attack_choice_ignores_test_labels(known, tiny_fast):
    data = make_target(rows=(200, 120, 120), leak=0.3)
    other = dataclasses.replace(data, test_labels=np.roll(data.test_labels, 37))
    names = ("logistic_standardised", "knn_whitened", "mlp_whitened", "trees_standardised")
    setting = dataclasses.replace(tiny_fast, restarts=2)
    first, second = (attack(d, names, known, setting, seed=4) for d in (data, other))
    assert strongest(first).name == strongest(second).name
    pairs = zip(first, second, strict=True)
    # Networks add up in another order from run to run.
    assert all(a.validation == pytest.approx(b.validation, abs=0.02) for a, b in pairs)
    assert strongest(first).test["accuracy"] > strongest(second).test["accuracy"] + 0.2


def test_attack_hides_test_labels_from_attackers(tiny_fast):
    data = make_target()
    given = []

    def spy(inputs, setting, seed):
        given.append((inputs.data.test_labels.any(), seed))
        return ClassScores(np.eye(3)[inputs.data.validation_labels], np.eye(3)[data.test_labels])

    setting = dataclasses.replace(tiny_fast, restarts=3)
    found = attack(data, ["mlp_whitened"], {"mlp_whitened": spy}, setting, seed=0)
    assert found[0].test["accuracy"] == 1
    assert [seen for seen, _ in given] == [False] * 3 and len({s for _, s in given}) == 3


def test_attack_keeps_the_best_restart_on_validation_rows(tiny_fast):
    data = make_target(classes=3)
    right, wrong = np.eye(3), np.roll(np.eye(3), 1, axis=0)
    plan = iter([(wrong, right), (right, wrong), (wrong, right)])

    def attacker(inputs, setting, seed):
        validation, test = next(plan)
        return ClassScores(validation[data.validation_labels], test[data.test_labels])

    setting = dataclasses.replace(tiny_fast, restarts=3)
    found = attack(data, ["mlp_whitened"], {"mlp_whitened": attacker}, setting, seed=0)
    assert found[0].validation == 1 and found[0].test["accuracy"] == 0


def test_strongest_is_the_best_on_validation_rows():
    readings = [Reading("a", 0.2, {"accuracy": 0.9}), Reading("b", 0.3, {"accuracy": 0.1})]
    assert strongest(readings).name == "b"
    assert strongest([*readings, Reading("c", 0.3, {})]).name == "b"


def test_attack_on_flat_rows_leaves_out_attackers_of_maps(known, tiny_fast):
    data = make_target(shape=(7,), leak=1.0)
    found = attack(data, THOROUGH.features, known, tiny_fast, seed=0)
    assert found and not any(reads_maps_only(reading.name) for reading in found)
    assert all(reads_maps_only(f"{family}_cnn_raw") for family in ("patch", "positional"))
    with pytest.raises(ValueError, match="expected an attacker that reads rows"):
        attack(data, ["patch_cnn_raw"], known, tiny_fast, seed=0)


@pytest.fixture
def nearest_mean():
    """A family registered from outside: distance to the class means."""

    @register_probe("nearest_mean", forms=("raw", "standardised"))
    def attack_by_means(inputs, form, budget, seed):
        train, *others = inputs.rows(form)
        labels = inputs.data.train_labels
        means = np.stack([train[labels == k].mean(0) for k in range(inputs.data.classes)])
        return ClassScores(
            *(-np.linalg.norm(part[:, None] - means[None], axis=2) for part in others)
        )

    yield
    del FAMILIES["nearest_mean"]


def test_register_probe_from_outside_adds_attackers_for_each_form(nearest_mean, tiny_fast):
    names = ["nearest_mean_raw", "nearest_mean_standardised"]
    readings = attack(make_target(leak=1.0), names, attackers(), tiny_fast, seed=0)
    assert [reading.name for reading in readings] == names
    assert all(reading.test["accuracy"] > 0.97 for reading in readings)
    # Not declared to start at random, so one start each.
    assert [len(reading.starts) for reading in readings] == [1, 1]
    assert not reads_maps_only(names[0])


@pytest.mark.parametrize(
    ("name", "forms", "message"),
    [
        ("logistic", ("raw",), "the name is taken"),
        ("discriminator", ("raw",), "the name is taken"),
        ("mine", ("raw", "sorted"), "form 'sorted' is not one of"),
    ],
)
def test_register_probe_with_a_taken_name_or_unknown_form_is_refused(name, forms, message):
    with pytest.raises(ValueError, match=message):
        register_probe(name, forms=forms)


def test_random_start_of_a_renamed_attacker_is_that_of_its_former_name(tiny_fast):
    seeds = []

    def spy(inputs, budget, seed):
        seeds.append(seed)
        return ClassScores(np.eye(3)[inputs.data.validation_labels], np.eye(3)[data.test_labels])

    data = make_target()
    attack(data, ["patch_cnn_raw"], {"patch_cnn_raw": spy}, tiny_fast, seed=5)
    assert seeds == [layer_seed(5, "local_raw/0")]
