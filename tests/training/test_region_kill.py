"""A run that is killed while its mask learns goes on as if it had not been."""

import signal

import numpy as np
import pytest

from tests.training.test_resume import weights
from tests.training.tiny import train_in_process

# Business takes 10 steps; then 270 faces in batches of 64 make 4 steps an epoch.
DEATHS = ("step:13", "saved:16")
OPTIONS = {
    "removal": {
        "mask": "learned",
        "mask_width": 4,
        "region_rows": 300,
        "region_epochs": 2,
        "mask_warmup_steps": 2,
        "region_learning_rate": 0.01,
    },
    "discriminator_epochs": 1,
    "restorer_epochs": 0,
    "adversarial_epochs": 1,
}


@pytest.mark.slow
def test_a_run_killed_in_the_mask_s_phase_ends_with_the_same_bits(tmp_path):
    cache, killed, whole = tmp_path / "cache", tmp_path / "killed", tmp_path / "whole"
    assert train_in_process(whole, cache, "mtl_adv", **OPTIONS) == 0
    for death in DEATHS:
        assert train_in_process(killed, cache, "mtl_adv", death, **OPTIONS) == -signal.SIGKILL
    assert train_in_process(killed, cache, "mtl_adv", **OPTIONS) == 0
    ran = (tmp_path / "killed.ran").read_text().split()
    assert ran.count("regions") > 8, "some of its steps were lost and taken again"
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys() and any("mask_" in name for name in ours)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
