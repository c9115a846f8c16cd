"""A whole run with noise and erasure: what its released encoder does."""

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
from tf_mtl_privacy.training.fit import fit


def noisy_config(**removal):
    removal = {"feature_noise": 0.5, "erasure": "leace", "erasure_labels": "train"} | removal
    return dataclasses.replace(tiny_config(), removal=RemovalConfig(**removal))


@pytest.fixture(scope="module")
def whole(untraced, tmp_path_factory):
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
