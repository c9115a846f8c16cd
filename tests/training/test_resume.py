import json
import signal

import keras
import numpy as np
import pytest

from tests.training.tiny import train_in_process
from tf_mtl_privacy.training.saved_run import load_run

# 72 rows in batches of 16 make 5 steps an epoch, 10 a phase; these fall into each of the phases,
# off and on a checkpoint, in first and second epochs.
DEATHS = {"business": 4, "discriminator": 17, "restorer": 23, "adversarial": 39}


def weights(run_dir):
    run = load_run(run_dir)
    return {
        f"{name}/{variable.path}": keras.ops.convert_to_numpy(variable)
        for name, model in run.bundle.items()
        for variable in model.variables
    }


def killed_and_whole(tmp_path, model):
    cache = tmp_path / "cache"
    assert train_in_process(tmp_path / "whole", cache, model) == 0
    for step in DEATHS.values():
        assert train_in_process(tmp_path / "killed", cache, model, step) == -signal.SIGKILL
    assert train_in_process(tmp_path / "killed", cache, model) == 0
    return tmp_path / "killed", tmp_path / "whole"


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_with_the_same_bits(tmp_path):
    killed, whole = killed_and_whole(tmp_path, "mtl_adv")
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert not list(killed.glob("features*")), "cached features must be gone"


@pytest.mark.slow
def test_a_private_run_killed_in_every_phase_takes_as_many_steps(tmp_path):
    killed, whole = killed_and_whole(tmp_path, "mtl_adv_dp")
    status = [json.loads((run / "training.json").read_text()) for run in (killed, whole)]
    for part in ("steps", "steps_by_phase"):
        assert status[0]["dp"][part] == status[1]["dp"][part]
    assert status[0]["dp"]["steps_by_phase"] == {"discriminator": 10, "adversarial": 10}
    phases = [
        {name: (phase["epochs"], phase["steps"]) for name, phase in s["training"]["phases"].items()}
        for s in status
    ]
    assert phases[0] == phases[1]


@pytest.mark.slow
def test_features_that_a_killed_process_left_are_deleted_by_the_next(tmp_path):
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert train_in_process(run, cache, "mtl_adv", die_closing=True) == -signal.SIGKILL
    assert (run / "features" / "features.f32").exists()
    assert train_in_process(run, cache, "mtl_adv") == 0
    assert not (run / "features").exists()
