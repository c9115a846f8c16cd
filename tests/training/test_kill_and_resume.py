"""Runs that are killed or interrupted and resumed: kinds of runs x places where they stop.

With 72 rows in batches of 16 an epoch has 5 steps and a phase 10. A checkpoint is saved every
second step of an epoch and at its end: steps 1 to 10 are the task classifier's, 11 to 20 the
discriminator's, 21 to 30 the restorer's and 31 to 40 the joint phase's, and checkpoints hold
2, 4, 5, 7, 9, 10, 12, ... steps. With `--dp_scope=all` the phases are the same.
"""

import json
import random
import signal
from collections import Counter

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.game_runs import LARGE, STEPS, game_config, interrupted_fit, weights
from tests.training.test_checks import figures_of_networks, history
from tests.training.tiny import private_config, tiny_arrays, train_in_process
from tests.training.tiny_private import UPDATES
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, read_ledger
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.saved_run import load_run

BLOCK, PLANNED, DELTA = 2, 10, 1e-5
TWO_UPDATES = {
    "discriminator": "discriminator",
    "adversarial_discriminator": "adversarial",
}
# With these options the task classifier takes 10 steps, the mask 8 (270 faces in batches of 64),
# discriminator and restorer 5 each, and the joint phase 10.
REMOVAL = {
    "removal": {
        "mask": "learned",
        "mask_width": 4,
        "region_rows": 300,
        "region_epochs": 2,
        "mask_warmup_steps": 2,
        "region_learning_rate": 0.01,
        "feature_noise": 0.5,
        "erasure": "leace",
        "erasure_labels": "train",
    },
    "discriminator_epochs": 1,
    "restorer_epochs": 1,
    "early_gates": False,
}


def assert_same_bits(ours, theirs):
    mine, others = weights(ours), weights(theirs)
    assert mine.keys() == others.keys()
    for name in others:
        np.testing.assert_array_equal(mine[name], others[name], err_msg=name)
    lines = [(run.run_dir / "metrics.jsonl").read_text() for run in (ours, theirs)]
    assert lines[0] == lines[1]


def ran(run_dir):
    """Counts the steps of each phase that ran, including those of killed processes."""
    return Counter(run_dir.with_name(f"{run_dir.name}.ran").read_text().split())


# The deaths are in each phase, on and off a checkpoint, in first and second epochs; the last one of
# the run with removal is right after its last step.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "deaths", "repeated"),
    [
        pytest.param({}, ("step:4", "step:17", "saved:24", "step:39"), {}, id="plain"),
        pytest.param(
            REMOVAL,
            ("step:5", "step:13", "saved:16", "step:21", "step:26", "step:34", "step:38"),
            {"regions": 8, "adversarial": 10},
            id="mask_erasure_noise",
        ),
    ],
)
def test_killed_run_resumed_has_same_bits(tmp_path, cache, options, deaths, repeated):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert train_in_process(whole, cache, "mtl_adv", **options) == 0
    for death in deaths:
        assert train_in_process(killed, cache, "mtl_adv", death, **options) == -signal.SIGKILL
    assert train_in_process(killed, cache, "mtl_adv", **options) == 0
    for phase, steps in repeated.items():
        assert ran(killed)[phase] > steps, "some steps were lost and taken again"
    ours = load_run(killed)
    assert ("mask" in options.get("removal", {})) == any("mask_" in name for name in weights(ours))
    assert_same_bits(ours, load_run(whole))
    assert not list(killed.glob("features*")), "cached features must be gone"


@pytest.mark.slow
def test_features_of_killed_process_are_deleted_by_the_next(tmp_path, cache):
    run = tmp_path / "run"
    assert train_in_process(run, cache, "mtl_adv", "closing", untraced=True) == -signal.SIGKILL
    assert (run / "features" / "features.f32").exists()
    assert train_in_process(run, cache, "mtl_adv", untraced=True) == 0
    assert not (run / "features").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_interrupted_game_resumed_has_same_bits(tmp_path, monkeypatch):
    game = LARGE | {"beta_warmup_epochs": 1.5}
    config = game_config("mtl_adv", game=game, discriminator_epochs=1)
    whole = fit(config, tiny_arrays(), run_dir=tmp_path / "whole")
    # In the discriminators' phase, and off a checkpoint in the epoch after a restart.
    for after in (2, 7):
        interrupted_fit(config, tmp_path / "parts", monkeypatch, after)
    assert_same_bits(fit(config, tiny_arrays(), run_dir=tmp_path / "parts"), whole)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    # After one of 1.5 epochs two thirds of 0.1; the second epoch has all of beta_late.
    assert [json.loads(line).get("beta") for line in lines][-2:] == pytest.approx([0.1 / 1.5, 0.3])


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_interrupted_run_keeps_same_best_networks(tmp_path, monkeypatch):
    game = {"check_epochs": 1, "checkpoint_selection": "best"}
    config = game_config("mtl_adv", game, adversarial_epochs=4, stop_business="", stop_psnr=0.0)
    options = {"check": figures_of_networks}
    whole = fit(config, tiny_arrays(), run_dir=tmp_path / "whole", **options)
    for after in (2 * STEPS, 2 * STEPS + 1):
        interrupted_fit(config, tmp_path / "parts", monkeypatch, after, **options)
    parts = fit(config, tiny_arrays(), run_dir=tmp_path / "parts", **options)
    figures = history(tmp_path / "whole")
    best = min(figures, key=lambda epoch: (figures[epoch], -epoch))
    for run in (whole, parts):
        assert run.status["training"]["kept_epoch"] == best
        # The released networks are the kept epoch's, and so is the check that counts.
        final = {name: figures[best] for name in figures_of_networks(whole.bundle, None)}
        assert run.status["training"]["final_check"] == {"epoch": best, **final}
    assert history(tmp_path / "parts") == figures and len(set(figures.values())) == 4
    assert_same_bits(parts, whole)


def random_deaths(seed):
    """Two in each private phase: right after any step, on a checkpoint, after a reservation."""
    draw = random.Random(seed)
    return [
        f"step:{draw.randint(11, 15)}",
        f"saved:{10 + draw.choice([7, 9])}",
        f"step:{draw.choice([31, 33, 35])}",
        f"reserved:adversarial_discriminator:{draw.choice([7, 9])}",
    ]


# In each phase, on and off a checkpoint, before the first one, and between a joint step's updates.
DEATHS = {
    "discriminator": random_deaths(11),
    "all": [f"between:{step}" for step in (1, 14, 25, 36)],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "phase_of", "kills", "noise"),
    [("discriminator", TWO_UPDATES, 2, 1.5), ("all", UPDATES, 1, 3.0)],
)
def test_killed_private_run_counts_every_update(
    tmp_path, cache, request, scope, phase_of, kills, noise
):
    """`kills` is their number in each private phase."""
    run = tmp_path / "run"
    options = {"test_key": 3, "privacy": {"noise_multiplier": noise}}
    if scope == "all":
        options = {"backbone": request.getfixturevalue("public").run_dir}
    for death in DEATHS[scope]:
        code = train_in_process(run, cache, "mtl_adv_dp", death, untraced=True, **options)
        assert code == -signal.SIGKILL, death
    assert train_in_process(run, cache, "mtl_adv_dp", untraced=True, **options) == 0
    status = load_run(run).status
    dp, done = status["dp"], ran(run)
    trained = {name: phase["steps"] for name, phase in status["training"]["phases"].items()}
    assert trained == dict.fromkeys(UPDATES.values(), PLANNED)
    assert dp["phases"].keys() == phase_of.keys()
    for name, phase in dp["phases"].items():
        assert phase["steps_in_weights"] == PLANNED
        # Never fewer than ran, and at most a block more than in the weights for each kill.
        assert done[phase_of[name]] <= phase["steps"] <= PLANNED + BLOCK * kills, name
        assert scope == "discriminator" or phase["steps"] > PLANNED, name
    assert sum(done.values()) > 40, "some steps were lost and repeated"
    assert dp["steps"] > PLANNED * len(dp["phases"]), "lost updates are counted all the same"
    spent = read_ledger(run / "checkpoints").phases()
    assert {name: phase.steps for name, phase in spent.items()} == {
        name: phase["steps"] for name, phase in dp["phases"].items()
    }
    by_hand = [(noise, p["sampling_probability"], p["steps"]) for p in dp["phases"].values()]
    expected = reference_epsilon(by_hand, DELTA)
    assert epsilon(list(spent.values()), DELTA) == pytest.approx(expected, rel=2e-3)
    if scope == "all":
        assert dp["epsilon_pld"] == pytest.approx(expected, rel=2e-3)
        assert set(dp["released"].values()) == {dp["epsilon_pld"]}
    else:
        # A test key voids the run, which then states no epsilon.
        assert dp["void"] and dp["epsilon_pld"] is None
    assert not (run / "features").exists()


@pytest.mark.slow
def test_kill_that_uses_budget_ends_phase_early(tmp_path, cache):
    run = tmp_path / "run"
    options = {
        "privacy": {"target_epsilon_pretrain": 2.0, "target_epsilon_adversarial": 1.0},
        "business_epochs": 0,
        "restorer_epochs": 0,
        "checkpoint_steps": 3,
        "early_gates": False,
        "untraced": True,
    }
    # The joint phase's steps are 11 to 20 here. Killed after the fourth, when six were reserved and
    # three are in the checkpoint: four of its ten updates are left.
    assert train_in_process(run, cache, "mtl_adv_dp", "step:14", **options) == -signal.SIGKILL
    assert train_in_process(run, cache, "mtl_adv_dp", **options) == 0
    status = load_run(run).status
    dp = status["dp"]
    assert dp["void"] is False and dp["budget_ended"] == {"adversarial": 3}
    counts = {name: (p["steps"], p["steps_in_weights"]) for name, p in dp["phases"].items()}
    assert counts == {"discriminator": (10, 10), "adversarial_discriminator": (10, 7)}
    assert ran(run) == {"discriminator": 10, "adversarial": 8}
    for name, target in (("discriminator", 2.0), ("adversarial_discriminator", 1.0)):
        phase = dp["phases"][name]
        spent = (phase["noise_multiplier"], phase["sampling_probability"], phase["steps"])
        assert 0.97 * target < reference_epsilon([spent], DELTA) <= target
        assert phase["epsilon_pld"] <= target
    assert status["training"]["phases"]["adversarial"]["steps"] == 7


@pytest.mark.slow
def test_kill_in_fully_private_run_ends_it_within_its_target(tmp_path, cache, public):
    run, target = tmp_path / "run", 2.0
    options = {"backbone": public.run_dir, "target_epsilon": target, "untraced": True}
    assert train_in_process(run, cache, "mtl_adv_dp", "between:33", **options) == -signal.SIGKILL
    assert train_in_process(run, cache, "mtl_adv_dp", **options) == 0
    dp = load_run(run).status["dp"]
    spent = [
        (p["noise_multiplier"], p["sampling_probability"], p["steps"])
        for p in dp["phases"].values()
    ]
    assert dp["epsilon_pld"] <= target and reference_epsilon(spent, DELTA) <= target * 1.002
    left = dp["budget_ended"]["adversarial"]
    assert 0 < left <= 2
    for name, phase in UPDATES.items():
        expected = PLANNED - left if phase == "adversarial" else PLANNED
        assert dp["phases"][name]["steps_in_weights"] == expected


class PowerCutError(Exception):
    """Ends a run at once, without a checkpoint."""


@pytest.mark.usefixtures("untraced")
def test_lost_or_older_ledger_is_refused(tmp_path):
    config = private_config({"noise_multiplier": 2.0}, discriminator_epochs=3)

    def train(until=""):
        """Trains until a report begins with `until`; that epoch is not yet in a checkpoint."""

        def report(text):
            if until and text.startswith(until):
                raise PowerCutError

        return fit(config, tiny_arrays(), run_dir=tmp_path, report=report)

    path = tmp_path / "checkpoints" / LEDGER_FILE
    with pytest.raises(PowerCutError):
        train("discriminator, epoch 1 of 3")
    # Three steps of an epoch ran; checkpoints are every two.
    older = path.read_bytes()
    assert read_ledger(path.parent).spent("discriminator") == 4
    with pytest.raises(PowerCutError):
        train("discriminator, epoch 3 of 3")
    newest = path.read_bytes()
    files = sorted(file.name for file in path.parent.iterdir())

    path.unlink()
    with pytest.raises(RunError, match="no such file, but the checkpoint has 8 private updates"):
        train()
    assert not path.exists(), "a new ledger would count from zero"

    path.write_bytes(older)
    with pytest.raises(RunError, match="4 updates of discriminator, but the checkpoint has 8"):
        train()
    assert path.read_bytes() == older
    assert sorted(file.name for file in path.parent.iterdir()) == files
    assert not (tmp_path / "training.json").exists()

    path.write_bytes(newest)
    phase = train().status["dp"]["phases"]["discriminator"]
    # Two power cuts lost a step each, which stays counted, as do unused reservations.
    assert phase["steps_in_weights"] == 9 and 9 + 2 <= phase["steps"] <= 9 + 2 * 2
