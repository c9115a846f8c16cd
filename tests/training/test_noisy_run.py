"""A whole run with noise and erasure: fitted to the end, the same bits after a kill."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.removal.erasure import erasure_of
from tf_mtl_privacy.removal.noise import NOISE, noiseless
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.fit import fit

# 40 rows in batches of 16: 3 steps an epoch, 6 a phase.
STEPS = 24


class KilledError(Exception):
    """Stands for a kill: nothing is saved on the way out."""


def noisy_config(**removal):
    removal = {"feature_noise": 0.5, "erasure": "leace", "erasure_labels": "train"} | removal
    return dataclasses.replace(tiny_config(), removal=RemovalConfig(**removal))


def killed_at(monkeypatch, step):
    book = TrainingState.count_step

    def count_step(self, metrics):
        if self.total_steps + 1 == step:
            raise KilledError
        book(self, metrics)

    monkeypatch.setattr(TrainingState, "count_step", count_step)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(noisy_config(), tiny_arrays(), run_dir=tmp_path_factory.mktemp("whole"))


def test_it_ends_with_an_erasure_that_fits_its_encoder(whole):
    data = tiny_arrays()
    rows = data.rows["train"]
    images = to_float(tf.constant(data.store.images(rows)))
    labels = data.labels_of(rows)
    gender, private = labels.business["gender"], np.eye(3)[labels.private]
    beyond = private.copy()
    for value in (0, 1):
        beyond[gender == value] -= private[gender == value].mean(0)
    layer = erasure_of(whole.bundle.encoder)
    part = keras.Model(whole.bundle.encoder.inputs[0], [layer.input, layer.output])
    before, after = (np.array(out).reshape(len(rows), -1) for out in part(images, training=False))
    size = [np.abs((x - x.mean(0)).T @ beyond / len(rows)).max() for x in (before, after)]
    assert size[0] > 1e-2
    assert size[1] < 1e-4


def test_it_is_saved_without_a_seed_of_its_noise(whole):
    assert not np.any(whole.bundle.encoder.get_layer(NOISE).draws)
    images = np.zeros((2, 32, 32, 3), np.float32)
    noise = whole.bundle.encoder(images) - noiseless(whole.bundle.encoder)(images)
    assert np.std(noise) == pytest.approx(0.5, rel=0.2)


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_with_the_same_bits(whole, tmp_path, monkeypatch):
    for step in (5, 11, 16, STEPS - 4, STEPS):
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            with pytest.raises(KilledError):
                fit(noisy_config(), tiny_arrays(), run_dir=tmp_path / "run")
    again = fit(noisy_config(), tiny_arrays(), run_dir=tmp_path / "run")
    for (name, one), (_, other) in zip(whole.bundle.items(), again.bundle.items(), strict=True):
        for mine, theirs in zip(one.variables, other.variables, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{name}/{mine.path}")
    lines = [(run.run_dir / "metrics.jsonl").read_text() for run in (whole, again)]
    assert lines[0] == lines[1]
