"""The joint phase's step sizes with `--dp_scope=all`, against the cosine written out."""

import math

import pytest

from tests.models.run_folders import config_of, finished_run
from tests.training.tiny import new_run, tiny_arrays
from tests.training.tiny_private import all_private_config
from tf_mtl_privacy.training.phases import PrivatePhases

RATE, DISCRIMINATOR_RATE = 3e-4, 2e-3
CLASSES = {"gender": 2}
# 40 rows, 16 a step on average: 3 steps an epoch, two epochs.
STEPS = 6


def rates(tmp_path, schedule):
    """Update -> its step sizes in the joint phase."""
    finished_run(tmp_path / "backbone", config_of(), CLASSES, 3)
    config = all_private_config(
        "",
        tmp_path / "backbone",
        adversarial_schedule=schedule,
        adversarial_learning_rate=RATE,
        discriminator_learning_rate=DISCRIMINATOR_RATE,
    )
    run = new_run(config, tiny_arrays(), tmp_path, key=1, phase="adversarial", beta=0.0)
    phases = PrivatePhases(run)
    joint = phases.build("adversarial")
    assert joint.epochs * joint.steps_per_epoch == STEPS
    found = {name: [] for name in run.plan.of_phase("adversarial")}
    for number in range(STEPS):
        joint.step(joint.inputs(*divmod(number, joint.steps_per_epoch)))
        for name, seen in found.items():
            optimizer = phases.private_optimizers[name]
            assert optimizer.iterations == number + 1
            seen.append(float(optimizer.learning_rate))
    phases.close()
    return {name.removeprefix("adversarial_"): seen for name, seen in found.items()}


def test_encoder_and_restorer_follow_the_schedule_and_the_discriminator_does_not(tmp_path):
    found = rates(tmp_path, "cosine")
    expected = [RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    for name in ("encoder", "restorer"):
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    assert found["discriminator"] == pytest.approx([DISCRIMINATOR_RATE] * STEPS, rel=1e-6)
