"""Phases: the rows and labels that they read, and the private learning rates against a cosine."""

import dataclasses
import math

import numpy as np
import pytest

from tests.models.run_folders import config_of, finished_run
from tests.training.tiny import new_run, tiny_arrays, tiny_config
from tests.training.tiny_private import all_private_config
from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.privacy.keys import key_for_tests
from tf_mtl_privacy.training.batches import Batches, drawn
from tf_mtl_privacy.training.phases import Phases, PrivatePhases
from tf_mtl_privacy.training.private_updates import private_plan

KEY = key_for_tests(3)


def arrays(size, rows=20):
    count = rows + 1
    return Dataset.from_arrays(
        np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8),
        {"gender": np.arange(count) % 2},
        np.arange(count) % 3,
        split=np.arange(count) // rows,
    )


def phases(config, tmp_path, dataset=None):
    dataset = dataset or arrays(config.data.image_size)
    run = new_run(config, dataset, tmp_path)
    return Phases(run), run.bundle


def masks(phase):
    """Returns the masks of the first epoch's batches."""
    read = [phase.inputs(0, step) for step in range(phase.steps_per_epoch)]
    # The joint phase reads the encoder's batch, and batches of further discriminator updates.
    return [np.array((part[0] if phase.name == "adversarial" else part).mask) for part in read]


def test_phases_with_batchnorm_read_no_padding(tmp_path):
    config = tiny_config()
    data = dataclasses.replace(config.data, image_size=64)
    model = dataclasses.replace(ModelConfig(), encoder="mobilenet_v2", feature_stride=8)
    config = dataclasses.replace(config, data=data, model=model)
    built = phases(config, tmp_path)[0]
    actual = masks(built.build("business"))
    assert len(actual) == 1 and actual[0].shape == (16,) and actual[0].all()
    joint = masks(built.build("adversarial"))
    assert sum(mask.sum() for mask in joint) == 20, "later phases see every row"


def test_phases_without_batchnorm_read_every_row(tmp_path):
    phase = phases(tiny_config(), tmp_path)[0].build("business")
    read = [phase.inputs(1, step) for step in range(phase.steps_per_epoch)]
    real = np.concatenate([np.array(batch.index)[np.array(batch.mask)] for batch in read])
    assert sorted(real) == list(range(20))


def test_batches_read_training_rows_by_position(tmp_path):
    dataset = tiny_arrays(20)
    dataset = dataclasses.replace(dataset, rows=dataset.rows | {"train": np.array([9, 3, 17, 5])})
    batches = Batches(tiny_config(), dataset, ["gender"], None)
    positions, mask = np.array([2, 0, -1]), np.array([True, True, False])
    batch = batches.batch(positions, mask)
    assert np.array(batch.index).tolist() == [17, 9, -1]
    np.testing.assert_array_equal(batch.mask, mask)
    np.testing.assert_array_equal(batch.private, [17 % 3, 9 % 3, -1])
    np.testing.assert_array_equal(
        np.array(batch.image)[:2], dataset.store.images(np.array([17, 9]))
    )


def test_private_phases_draw_planned_batches(tmp_path):
    config, dataset = tiny_config("mtl_adv_dp"), tiny_arrays(40, unlabelled=10)
    built = phases(config, tmp_path, dataset)[0]
    plan = private_plan(config, dataset, KEY)
    joint = built.build("adversarial")
    for epoch, step in ((0, 0), (0, 1), (1, 1)):
        sampler = plan.updates["adversarial_discriminator"].sampler
        rows, mask = sampler.batch(epoch, step)
        batch, further = joint.inputs(epoch, step)
        assert further == {}
        assert np.array(batch.index)[np.array(batch.mask)].tolist() == rows[mask].tolist()
        # As little padding as a multiple of sixteen within the capacity allows.
        assert len(batch.mask) == min(len(mask), 16 * max(1, -(-mask.sum() // 16)))


def test_the_discriminator_reads_features_and_labels_of_the_same_rows(tmp_path):
    config, dataset = tiny_config("mtl_adv_dp"), tiny_arrays(40, unlabelled=10)
    built, bundle = phases(config, tmp_path, dataset)
    phase = built.build("discriminator")
    features, labels, mask = (np.array(part) for part in phase.inputs(0, 1)["discriminator"])
    plan = private_plan(config, dataset, KEY)
    positions, known = drawn(plan.updates["discriminator"].sampler, 0, 1)
    np.testing.assert_array_equal(mask, known)
    assert mask.any() and positions[mask].max() < 30, "rows without a label are not drawn"
    np.testing.assert_array_equal(labels, np.where(mask, positions % 3, -1))
    images = dataset.store.images(positions[mask]).astype(np.float32) / 255
    expected = np.array(bundle.encoder(images, training=False))
    np.testing.assert_allclose(features[mask], expected, atol=1e-5)
    assert not features[~mask].any()
    built.close()


@pytest.mark.parametrize(
    ("model", "weight", "used"),
    [("mtl_adv", 1.0, "hed"), ("mtl_adv", 0.0, "none"), ("stl", 1.0, "none")],
)
def test_unused_perceptual_loss_is_off(model, weight, used):
    config = tiny_config(model)
    loss = dataclasses.replace(config.loss, perceptual_weights="hed", perceptual_weight=weight)
    assert dataclasses.replace(config, loss=loss).effective_perceptual_weights == used


def test_phases_close_deletes_features_of_other_process(tmp_path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "features.f32").write_bytes(b"x")
    phases(tiny_config(), tmp_path)[0].close()
    assert not (tmp_path / "features").exists()


RATE, DISCRIMINATOR_RATE = 3e-4, 2e-3
CLASSES = {"gender": 2}
# 40 rows, 16 a step on average: 3 steps an epoch, two epochs.
STEPS = 6


def rates(tmp_path, schedule):
    """Returns update -> its learning rates in the joint phase."""
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
    actual = {name: [] for name in run.plan.of_phase("adversarial")}
    for number in range(STEPS):
        joint.step(joint.inputs(*divmod(number, joint.steps_per_epoch)))
        for name, seen in actual.items():
            optimizer = phases.private_optimizers[name]
            assert optimizer.iterations == number + 1
            seen.append(float(optimizer.learning_rate))
    phases.close()
    return {name.removeprefix("adversarial_"): seen for name, seen in actual.items()}


def test_private_rates_of_encoder_and_restorer_follow_schedule(tmp_path):
    actual = rates(tmp_path, "cosine")
    expected = [RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    for name in ("encoder", "restorer"):
        assert actual[name] == pytest.approx(expected, rel=1e-5), name
    assert actual["discriminator"] == pytest.approx([DISCRIMINATOR_RATE] * STEPS, rel=1e-6)
