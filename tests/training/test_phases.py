import dataclasses

import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.training.phases import Phases, perceptual_weights
from tf_mtl_privacy.training.record import RunRecord


def phases(config, tmp_path, rows=21):
    size = config.data.image_size
    generator = np.random.default_rng(0)
    dataset = Dataset.from_arrays(
        generator.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        {"gender": np.arange(rows) % 2},
        np.arange(rows) % 3,
        split=np.arange(rows) // (rows - 1),
    )
    bundle = build_bundle(config, {"gender": 2}, 3)
    record = RunRecord("business")
    return Phases(config, dataset, bundle, ["gender"], {}, tmp_path / "features", record)


def test_no_padding_reaches_a_batchnorm_that_learns(tmp_path):
    config = tiny_config()
    data = dataclasses.replace(config.data, image_size=64)
    model = dataclasses.replace(ModelConfig(), encoder="mobilenet_v2", feature_stride=8)
    config = dataclasses.replace(config, data=data, model=model)
    phase = phases(config, tmp_path).build("business")
    masks = [phase.sampler.batch(0, step)[1] for step in range(phase.sampler.steps_per_epoch)]
    assert masks and all(mask.all() for mask in masks)
    joint = phases(config, tmp_path).build("adversarial")
    assert joint.sampler.steps_per_epoch == len(masks) + 1, "later phases see every row"


def test_without_batchnorm_every_row_is_in_every_epoch(tmp_path):
    sampler = phases(tiny_config(), tmp_path).build("business").sampler
    rows = [sampler.batch(0, step) for step in range(sampler.steps_per_epoch)]
    real = np.concatenate([rows[mask] for rows, mask in rows])
    assert sorted(real) == list(range(20))


@pytest.mark.parametrize(
    ("model", "weight", "used"),
    [("mtl_adv", 1.0, "hed"), ("mtl_adv", 0.0, "none"), ("stl", 1.0, "none")],
)
def test_a_perceptual_loss_that_nothing_uses_is_off(model, weight, used):
    config = tiny_config(model)
    loss = dataclasses.replace(config.loss, perceptual_weights="hed", perceptual_weight=weight)
    assert perceptual_weights(dataclasses.replace(config, loss=loss)) == used


def test_leftover_features_are_deleted_even_if_another_process_made_them(tmp_path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "features.f32").write_bytes(b"x")
    phases(tiny_config(), tmp_path).close()
    assert not (tmp_path / "features").exists()
