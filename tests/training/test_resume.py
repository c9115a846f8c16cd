import signal

import keras
import numpy as np
import pytest

from tests.training.tiny import train_in_process
from tf_mtl_privacy.training.saved_run import load_run

# 72 rows in batches of 16 make 5 steps an epoch, 10 a phase; these fall into each of the phases,
# off and on a checkpoint, in first and second epochs.
DEATHS = ("step:4", "step:17", "saved:24", "step:39")


def weights(run_dir):
    run = load_run(run_dir)
    return {
        f"{name}/{variable.path}": keras.ops.convert_to_numpy(variable)
        for name, model in run.bundle.items()
        for variable in model.variables
    }


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_with_the_same_bits(tmp_path):
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    assert train_in_process(whole, cache, "mtl_adv") == 0
    for death in DEATHS:
        assert train_in_process(killed, cache, "mtl_adv", death) == -signal.SIGKILL
    assert train_in_process(killed, cache, "mtl_adv") == 0
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert not list(killed.glob("features*")), "cached features must be gone"


@pytest.mark.slow
def test_features_that_a_killed_process_left_are_deleted_by_the_next(tmp_path):
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert train_in_process(run, cache, "mtl_adv", "closing") == -signal.SIGKILL
    assert (run / "features" / "features.f32").exists()
    assert train_in_process(run, cache, "mtl_adv") == 0
    assert not (run / "features").exists()
