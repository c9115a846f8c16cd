"""A private run killed with SIGKILL and continued: what the weights have, what the ledger counts.

72 rows, 16 a step on average: 5 steps an epoch, 10 a phase, a checkpoint every second step of an
epoch and at its end. So steps 1 to 10 are the classifier's, 11 to 20 the discriminator's, 21 to 30
the restorer's and 31 to 40 the game's, and checkpoints hold 2, 4, 5, 7, 9, 10, 12, ... steps.
"""

import json
import random
import signal
from collections import Counter

import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.tiny import train_in_process
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.ledger import read_ledger

BLOCK = 2
WHOLE = {"discriminator": 10, "adversarial_discriminator": 10}
PHASE_OF = {"discriminator": "discriminator", "adversarial_discriminator": "adversarial"}


def random_deaths(seed):
    """Two in each private phase: right after any step, on a checkpoint, after a reservation."""
    draw = random.Random(seed)
    return [
        f"step:{draw.randint(11, 15)}",
        f"saved:{10 + draw.choice([7, 9])}",
        f"step:{draw.choice([31, 33, 35])}",
        f"reserved:adversarial_discriminator:{draw.choice([7, 9])}",
    ]


def dp_of(run_dir):
    return json.loads((run_dir / "training.json").read_text())["dp"]


def ran(run_dir):
    """Phase -> steps that really ran, those of killed processes included."""
    return Counter(run_dir.with_name(f"{run_dir.name}.ran").read_text().split())


def in_weights(dp):
    return {name: phase["steps_in_weights"] for name, phase in dp["phases"].items()}


@pytest.mark.slow
def test_a_private_run_killed_at_random_points_has_the_same_updates(tmp_path):
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    options = {"test_key": 3, "privacy": {"noise_multiplier": 1.5}}
    assert train_in_process(whole, cache, "mtl_adv_dp", untraced=True, **options) == 0
    exact = dp_of(whole)
    assert in_weights(exact) == {n: p["steps"] for n, p in exact["phases"].items()} == WHOLE
    deaths = random_deaths(11)
    for death in deaths:
        code = train_in_process(killed, cache, "mtl_adv_dp", death, untraced=True, **options)
        assert code == -signal.SIGKILL, death
    assert train_in_process(killed, cache, "mtl_adv_dp", untraced=True, **options) == 0
    dp, done = dp_of(killed), ran(killed)
    assert in_weights(dp) == WHOLE
    for name, phase in dp["phases"].items():
        really = done[PHASE_OF[name]]
        # Never under what ran, and a block over the weights for each of the two kills at most.
        assert really <= phase["steps"] <= WHOLE[name] + BLOCK * 2, (name, deaths)
    assert sum(done.values()) > 40, "some steps were lost and repeated"
    assert dp["steps"] > sum(WHOLE.values()), "what was lost is counted all the same"
    # A test key voids the run, which then states no epsilon; the ledger adds up all the same.
    assert dp["void"] and dp["epsilon_pld"] is exact["epsilon_pld"] is None
    spent = read_ledger(killed / "checkpoints").phases()
    assert {name: p.steps for name, p in spent.items()} == {
        name: p["steps"] for name, p in dp["phases"].items()
    }
    expected = [(1.5, p["sampling_probability"], p["steps"]) for p in dp["phases"].values()]
    summed = epsilon(list(spent.values()), 1e-5)
    assert summed == pytest.approx(reference_epsilon(expected, 1e-5), rel=1e-3)


@pytest.mark.slow
def test_a_kill_that_eats_into_the_budget_ends_training_early(tmp_path):
    cache, run = tmp_path / "cache", tmp_path / "run"
    targets = {"target_epsilon_pretrain": 2.0, "target_epsilon_adversarial": 1.0}
    options = {
        "privacy": targets,
        "business_epochs": 0,
        "restorer_epochs": 0,
        "checkpoint_steps": 3,
        "early_gates": False,
    }
    # The game's steps are 11 to 20 here. Killed after the fourth, when six were reserved and three
    # are in the checkpoint: four of its ten updates are left.
    assert (
        train_in_process(run, cache, "mtl_adv_dp", "step:14", untraced=True, **options)
        == -signal.SIGKILL
    )
    assert train_in_process(run, cache, "mtl_adv_dp", untraced=True, **options) == 0
    dp = dp_of(run)
    assert dp["void"] is False
    assert in_weights(dp) == {"discriminator": 10, "adversarial_discriminator": 7}
    assert {name: phase["steps"] for name, phase in dp["phases"].items()} == WHOLE
    assert dp["budget_ended"] == {"adversarial": 3}
    assert ran(run) == {"discriminator": 10, "adversarial": 8}
    for name, target in (("discriminator", 2.0), ("adversarial_discriminator", 1.0)):
        phase = dp["phases"][name]
        spent = (phase["noise_multiplier"], phase["sampling_probability"], phase["steps"])
        assert 0.97 * target < reference_epsilon([spent], 1e-5) <= target
        assert phase["epsilon_pld"] <= target
    training = json.loads((run / "training.json").read_text())["training"]
    assert training["phases"]["adversarial"]["steps"] == 7
