"""Several discriminators in `fit`: their updates, their restarts, and the counted epsilon."""

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.game_runs import EPOCHS, LARGE, STEPS, game_config
from tests.training.tiny import new_run, tiny_arrays
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.privacy.keys import key_for_tests
from tf_mtl_privacy.training.discriminators import Discriminators
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.phases import Phases
from tf_mtl_privacy.training.private_updates import private_plan

pytestmark = pytest.mark.usefixtures("untraced")

JOINT = EPOCHS * STEPS


def phases_of(config, tmp_path):
    run = new_run(config, tiny_arrays(), tmp_path, key=0, phase="adversarial", beta=0.3)
    return Phases(run), run.state


def test_private_game_counts_every_update(tmp_path):
    game = {"discriminators": 2, "discriminator_steps": 2}
    config = game_config(game=game, privacy={"target_epsilon": 2.0})
    dp = fit(config, tiny_arrays(), run_dir=tmp_path).status["dp"]
    steps = {name: (p["steps"], p["steps_in_weights"]) for name, p in dp["phases"].items()}
    before = dict.fromkeys(("discriminator", "discriminator_2"), (STEPS, STEPS))
    joint = [f"adversarial_discriminator{end}" for end in ("", "_2", "_step_2", "_2_step_2")]
    assert steps == before | dict.fromkeys(joint, (JOINT, JOINT))
    (noise,) = {phase["noise_multiplier"] for phase in dp["phases"].values()}
    # 40 rows, 16 a step: 2 updates x 3 steps in pre-training, 4 x 6 in the joint phase.
    expected = reference_epsilon([(noise, 0.4, 2 * STEPS + 4 * JOINT)], 1e-5)
    assert dp["epsilon_pld"] == pytest.approx(expected, rel=1e-3) and 1.9 < expected <= 2
    assert dp["unaccounted_label_access"] == []


@pytest.mark.parametrize("model", ["mtl_adv", "mtl_adv_dp"])
def test_restart_resets_one_discriminator_at_a_time(tmp_path, model):
    phases, _ = phases_of(game_config(model, LARGE | {"discriminator_restart_epochs": 2}), tmp_path)
    joint, game = phases.build("adversarial"), phases._discriminators
    joint.step(joint.inputs(0, 0))

    def state():
        return [[np.array(v) for v in member.variables] for member in game.members]

    def moved(epoch):
        before = state()
        joint.before_epoch(epoch)
        return [
            any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
            for old, new in zip(before, state(), strict=True)
        ]

    restarted = {epoch: moved(epoch) for epoch in range(9)}
    assert [epoch for epoch in restarted if any(restarted[epoch])] == [2, 4, 6, 8]
    assert restarted[2] == restarted[6] == [True, False] and restarted[4] == restarted[8] == [
        False,
        True,
    ]
    # The same call gives the same weights, and no two restarts are alike.
    joint.before_epoch(6)
    first = state()[0]
    joint.before_epoch(2)
    assert not np.array_equal(state()[0][0], first[0])
    joint.before_epoch(6)
    assert all(np.array_equal(a, b) for a, b in zip(state()[0], first, strict=True))


def test_restart_resets_slots_and_frees_no_budget(tmp_path):
    phases, _ = phases_of(game_config(game=LARGE), tmp_path)
    joint = phases.build("adversarial")
    for step in range(STEPS):
        joint.step(joint.inputs(0, step))
    joint.before_epoch(1)
    for name, optimizer in phases.private_optimizers.items():
        slots = [np.abs(np.array(v)).max() for v in optimizer.variables if v.dtype.is_floating]
        own = name.startswith("adversarial") and "discriminator_2" not in name
        assert optimizer.iterations == (STEPS if name.startswith("adversarial") else 0)
        assert (max(slots) == 0) == (own or not name.startswith("adversarial")), name


def test_joint_step_gets_growing_beta(tmp_path):
    phases, record = phases_of(game_config("mtl_adv", {"beta_warmup_epochs": 2.0}), tmp_path)
    seen = []
    phases._adversarial_step = lambda batch, beta: seen.append(float(beta)) or {}
    joint = phases.build("adversarial")
    for record.epoch in range(3):
        for record.step in range(STEPS):
            joint.step(joint.inputs(record.epoch, record.step))
    expected = [0.3 * min(1, n / (2 * STEPS)) for n in range(3 * STEPS)]
    assert seen == pytest.approx(expected)


def test_further_updates_read_their_own_batches(tmp_path, monkeypatch):
    config = game_config(game={"discriminator_steps": 2})
    seen = []

    def update(self, update):
        return lambda features, labels, mask: seen.append((update.name, features, labels)) or 0.0

    monkeypatch.setattr(Discriminators, "_update", update)
    monkeypatch.setattr("tensorflow.function", lambda f=None, **_: f if f else lambda g: g)
    phases, _ = phases_of(config, tmp_path)
    joint = phases.build("adversarial")
    batch, further = joint.inputs(0, 0)
    joint.step((batch, further))
    assert [name for name, *_ in seen] == [
        "adversarial_discriminator_step_2",
        "adversarial_discriminator",
    ]
    _, labels, mask = further["adversarial_discriminator_step_2"]
    sampler = private_plan(config, tiny_arrays(), key_for_tests(0)).updates[seen[0][0]].sampler
    rows, real = sampler.batch(0, 0)
    np.testing.assert_array_equal(np.array(labels)[np.array(mask)], rows[real] % 3)
    np.testing.assert_array_equal(seen[0][2], labels)
    pictures = tiny_arrays().store.images(rows[real]).astype(np.float32) / 255
    fresh = build_bundle(config, {"gender": 2}, 3).encoder(pictures, training=False)
    np.testing.assert_allclose(np.array(seen[0][1])[np.array(mask)], fresh, atol=1e-5)


def test_run_without_game_still_trains_discriminator(tmp_path):
    loss = {"beta": 0.0, "beta_late": 0.0, "objective": "paper", "beta_check_accuracy": 0.0}
    config = game_config(
        loss=loss | {"beta_check_epochs": 1}, discriminator_epochs=0, privacy={"target_epsilon": 2}
    )
    run = fit(config, tiny_arrays(), run_dir=tmp_path)
    dp, training = run.status["dp"], run.status["training"]
    assert training["final_beta"] == 0.0 and dp["unaccounted_label_access"] == []
    game = dp["phases"]["adversarial_discriminator"]
    assert (game["steps"], dp["phases"]["discriminator"]["steps"]) == (JOINT, 0)
    expected = reference_epsilon([(game["noise_multiplier"], 0.4, JOINT)], 1e-5)
    assert dp["epsilon_pld"] == pytest.approx(expected, rel=1e-3) and 1.9 < expected <= 2
    assert "adversarial_objective" not in (tmp_path / "metrics.jsonl").read_text()


def test_best_checkpoint_without_check_is_refused(tmp_path):
    with pytest.raises(UsageError) as error:
        fit(game_config(game={"checkpoint_selection": "best"}), tiny_arrays(), run_dir=tmp_path)
    assert str(error.value) == (
        "--checkpoint_selection=best requires an attacker check; set --probe=fast (in Python, "
        "pass `check` to fit), or use --checkpoint_selection=last"
    )
