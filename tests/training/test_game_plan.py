"""Planned batches, budgets and labels of several discriminators; epsilon by dp-accounting."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tests.privacy.reference import reference_epsilon
from tests.training.test_private_updates import DELTA, EPOCHS, all_config, parts
from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import GameConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.keys import key_for_tests
from tf_mtl_privacy.training.batches import Batches, shuffled_labels
from tf_mtl_privacy.training.private_updates import discriminator_updates, order_seed, private_plan

# 200 rows, 32 a step: 7 steps an epoch; 3 epochs of pre-training, 2 joint ones.
BEFORE, JOINT = 21, 14
FOUR = {
    "adversarial_discriminator",
    "adversarial_discriminator_2",
    "adversarial_discriminator_step_2",
    "adversarial_discriminator_2_step_2",
}


def config_of(game, privacy=None, model="mtl_adv_dp"):
    config = tiny_config(model, privacy, **EPOCHS)
    return dataclasses.replace(config, game=GameConfig(**game))


def plan_of(game, privacy=None):
    return private_plan(config_of(game, privacy), tiny_arrays(200), key_for_tests(0))


@pytest.mark.parametrize(
    ("game", "before", "joint"),
    [
        ({}, {"discriminator"}, {"adversarial_discriminator"}),
        (
            {"discriminator_steps": 3},
            {"discriminator"},
            {
                "adversarial_discriminator",
                "adversarial_discriminator_step_2",
                "adversarial_discriminator_step_3",
            },
        ),
        (
            {"discriminators": 2, "discriminator_steps": 2},
            {"discriminator", "discriminator_2"},
            FOUR,
        ),
    ],
)
def test_plan_has_each_update_once_a_step(game, before, joint):
    plan = plan_of(game, {"noise_multiplier": 1.7})
    assert set(plan.of_phase("discriminator")) == before
    assert set(plan.of_phase("adversarial")) == joint
    assert plan.of_phase("adversarial")[0] == "adversarial_discriminator"
    assert {n: u.planned for n, u in plan.updates.items()} == (
        dict.fromkeys(before, BEFORE) | dict.fromkeys(joint, JOINT)
    )
    assert set(plan.header.phases) == before | joint


@pytest.mark.parametrize(
    ("game", "joint"),
    [({"discriminator_steps": 2}, 2), ({"discriminators": 2, "discriminator_steps": 2}, 4)],
)
def test_epsilon_counts_every_update(game, joint):
    members = game.get("discriminators", 1)
    plan = plan_of(game, {"noise_multiplier": 4.0})
    by_hand = [(4.0, 32 / 200, BEFORE)] * members + [(4.0, 32 / 200, JOINT)] * joint
    assert sorted(parts(plan)) == sorted(by_hand)

    calibrated = plan_of(game, {"target_epsilon": 1.5})
    (noise,) = {part[0] for part in parts(calibrated)}
    by_hand = [(noise, 32 / 200, steps) for _, _, steps in by_hand]
    assert 0.97 * 1.5 < reference_epsilon(by_hand, DELTA) <= 1.5
    (usual,) = {part[0] for part in parts(plan_of({}, {"target_epsilon": 1.5}))}
    assert noise > 1.1 * usual


def test_phase_targets_cover_all_their_updates():
    game = {"discriminators": 2, "discriminator_steps": 2}
    privacy = {"target_epsilon_pretrain": 2.0, "target_epsilon_adversarial": 0.5}
    plan = plan_of(game, privacy)
    targets = {frozenset(budget.updates): budget.target_epsilon for budget in plan.budgets}
    assert targets == {frozenset({"discriminator", "discriminator_2"}): 2.0, frozenset(FOUR): 0.5}
    for names, target in targets.items():
        assert 0.97 * target < reference_epsilon(parts(plan, sorted(names)), DELTA) <= target


def test_updates_have_different_batches():
    for privacy in ({}, {"sampling": "shuffled_epochs"}):
        plan = plan_of({"discriminators": 3, "discriminator_steps": 2}, privacy)
        first = {tuple(update.sampler.batch(0, 0)[0]) for update in plan.updates.values()}
        assert len(first) == len(plan.updates) == 9
    # Without privacy they have shuffled epochs of their own too.
    config = config_of({"discriminators": 3, "discriminator_steps": 2}, model="mtl_adv")
    batches = Batches(config, tiny_arrays(200), ["gender"], None)
    names = [turn.name for turn in discriminator_updates(config.game)]
    assert len({tuple(batches.sampler(name).batch(0, 0)[0]) for name in names}) == 9


def test_order_of_rows_depends_on_seed_and_name():
    seeds = {order_seed(seed, name) for seed in range(3) for name in ("a", "b")}
    assert len(seeds) == 6 and order_seed(1, "a") in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("discriminator_steps", 2),
        ("discriminators", 2),
        ("discriminator_restart_epochs", 1),
        ("discriminator_labels", "shuffled"),
        ("beta_warmup_epochs", 1.0),
    ],
)
def test_everything_private_refuses_game_options(flag, value):
    config = all_config()
    with pytest.raises(UsageError) as error:
        dataclasses.replace(config, game=GameConfig(**{flag: value}))
    assert str(error.value) == (
        f"--{flag}={value}: only for --dp_scope=discriminator; with --dp_scope=all leave it out"
    )
    dataclasses.replace(config, game=GameConfig(check_epochs=2, checkpoint_selection="best"))


def test_shuffled_labels_are_uniform_and_uninformative():
    rows, classes = 40_000, 8
    # True labels that are far from uniform, so that a mere permutation of them would show.
    labels = np.random.default_rng(1).choice(classes, rows, p=np.arange(1, 9) / 36)
    drawn = shuffled_labels(labels, classes, seed=3)
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, drawn), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(table.sum(axis=0)).pvalue > 1e-3
    # The test has the power to see a leak: one row in 25 with its true label.
    leaky = np.where(np.arange(rows) % 25 == 0, labels, drawn)
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, leaky), 1)
    assert stats.chi2_contingency(table).pvalue < 1e-6


def test_shuffled_labels_are_independent_of_true_ones():
    labels = np.arange(500) % 5
    drawn = shuffled_labels(labels, 5, seed=0)
    np.testing.assert_array_equal(drawn, shuffled_labels((labels + 2) % 5, 5, seed=0))
    assert drawn.dtype == np.int32 and set(drawn) == set(range(5))
    assert not np.array_equal(drawn, shuffled_labels(labels, 5, seed=1))
    partly = np.where(np.arange(500) % 3 == 0, -1, labels)
    actual = shuffled_labels(partly, 5, seed=0)
    np.testing.assert_array_equal(actual, np.where(partly < 0, -1, drawn))


def test_discriminators_read_shuffled_labels_in_both_phases():
    dataset = tiny_arrays(40, unlabelled=10)
    config = config_of({"discriminator_labels": "shuffled"}, model="mtl_adv")
    batches = Batches(config, dataset, ["gender"], None)
    expected = shuffled_labels(dataset.labels("train").private, 3, config.train.seed)
    np.testing.assert_array_equal(batches.private, expected)
    assert (expected[:30] != np.arange(30) % 3).any()
    positions, mask = np.array([7, 3, 35, -1]), np.array([True, True, True, False])
    batch = batches.batch(positions, mask)
    np.testing.assert_array_equal(batch.private, [expected[7], expected[3], -1, -1])
    np.testing.assert_array_equal(np.array(batch.business["gender"])[:2], [7 // 2 % 2, 3 // 2 % 2])
