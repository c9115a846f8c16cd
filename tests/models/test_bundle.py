"""Bundles: building, sizes, saving and loading, and the Keras settings that they need."""

import stat

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import Config, DataConfig, ModelConfig, TrainConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.models.bundle import (
    build_bundle,
    load_bundle_weights,
    parameter_counts,
    save_bundle,
)

TASKS = {"gender": 2, "age": 4, "expression": 2}
SMALL = ModelConfig(compact_width=8, feature_channels=4, business_units=8, restorer_width=8)


def _config(shapes=SMALL, **train):
    return Config(data=DataConfig(image_size=32), model=shapes, train=TrainConfig(**train))


def _all_weights(bundle):
    return [w.numpy() for _, model in bundle.items() for w in model.weights]


def _equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("model", ["mtl_adv", "mtl_dp", "mtl_adv_dp"])
def test_multi_task_bundle_runs(model):
    bundle = build_bundle(_config(model=model), TASKS, 8)
    images = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    features = bundle.encoder(images)
    assert bundle.discriminator(features).shape == (2, 8)
    assert bundle.restorer(features).shape == images.shape
    assert set(bundle.business(features)) == set(TASKS)


def test_single_task_bundle_has_two_networks():
    bundle = build_bundle(_config(model="stl"), {"age": 4}, 0)
    assert bundle.discriminator is None and bundle.restorer is None
    assert [name for name, _ in bundle.items()] == ["encoder", "business"]


# The first is derived layer by layer below; a change of any network shows here.
COUNTS = {
    ("compact", 4, "conv"): (49136, 197576, 27432, 49779),
    ("compact", 8, "dense"): (204400, 54664, 66120, 70563),
    ("mobilenet_v2", 8, "conv"): (59568, 54664, 18120, 70563),
    ("resnet50", 16, "conv"): (8605616, 54664, 8808, 91347),
}


@pytest.mark.parametrize(("encoder", "stride", "shape"), COUNTS)
def test_parameter_counts(encoder, stride, shape):
    model = ModelConfig(encoder=encoder, feature_stride=stride, discriminator=shape)
    bundle = build_bundle(Config(model=model), TASKS, 8)
    assert tuple(parameter_counts(bundle).values()) == COUNTS[encoder, stride, shape]


def test_parameter_counts_match_hand_calculation():
    """Sums of kernel + bias, and gamma + beta per normalised channel."""
    block = 2 * 64 + (64 * 32 + 32) + (9 * 32 * 32 + 32) + (32 * 64 + 64)
    encoder = (25 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + 2 * block + (64 * 16 + 16) + 2 * 16
    pairs = (9 * 16 * 64) + (9 * 64 * 64) + (9 * 64 * 96) + (9 * 96 * 96) + 3 * (64 + 64 + 96 + 96)
    business = pairs + (4 * 4 * 96 * (2 + 4 + 2) + 8)
    discriminator = (9 * 16 * 32) + 2 * (9 * 32 * 32) + 3 * 3 * 32 + (4 * 4 * 32 * 8 + 8)
    restorer = (9 * 16 * 48 + 48) + (9 * 48 * 48 + 48) + (9 * 48 * 3 + 3) + 9 * 48 * 48
    assert COUNTS["compact", 4, "conv"] == (encoder, business, discriminator, restorer)


def test_pretrained_backbones_have_known_sizes():
    """Whole networks without a head have the sizes that Keras documents."""
    for name, backbone in (("resnet50", 23_587_712), ("mobilenet_v2", 2_257_984)):
        model = ModelConfig(encoder=name, feature_stride=32, feature_channels=1)
        counts = parameter_counts(build_bundle(Config(model=model), TASKS, 8))
        channels = {"resnet50": 2048, "mobilenet_v2": 1280}[name]
        assert counts["encoder"] == backbone + channels + 1 + 2


def test_bundle_with_same_seed_has_same_weights_and_sets_no_global_seed():
    keras.utils.set_random_seed(1)
    first = _all_weights(build_bundle(_config(seed=7), TASKS, 8))
    state_before = tf.random.uniform([3]).numpy()
    keras.utils.set_random_seed(2)
    second = _all_weights(build_bundle(_config(seed=7), TASKS, 8))
    state_after = tf.random.uniform([3]).numpy()
    assert _equal(first, second)
    # TensorFlow's global generator was not reset.
    assert not np.array_equal(state_before, state_after)
    assert not _equal(first, _all_weights(build_bundle(_config(seed=8), TASKS, 8)))


def test_layers_of_one_network_differ():
    bundle = build_bundle(_config(), TASKS, 8)
    kernels = [
        w.numpy() for _, m in bundle.items() for w in m.trainable_variables if "kernel" in w.name
    ]
    firsts = [round(float(k.ravel()[0] / k.std()), 5) for k in kernels]
    assert len(set(firsts)) == len(firsts)


def test_saved_bundle_loads_with_same_weights(tmp_path):
    source = build_bundle(_config(seed=1), TASKS, 8)
    save_bundle(source, tmp_path / "weights")
    names = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert names == [
        f"{n}.weights.h5" for n in ("business", "discriminator", "encoder", "restorer")
    ]
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o700
    target = build_bundle(_config(seed=2), TASKS, 8)
    assert not _equal(_all_weights(source), _all_weights(target))
    load_bundle_weights(target, tmp_path / "weights")
    assert _equal(_all_weights(source), _all_weights(target))


def test_failed_save_leaves_old_file(tmp_path, monkeypatch):
    bundle = build_bundle(_config(model="stl"), {"age": 4}, 0)
    save_bundle(bundle, tmp_path)
    before = (tmp_path / "encoder.weights.h5").read_bytes()

    def full_disk(self, path, overwrite=True):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", full_disk)
    with pytest.raises(RunError, match=r"cannot write .*encoder\.weights\.h5: No space left"):
        save_bundle(bundle, tmp_path)
    assert (tmp_path / "encoder.weights.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_load_of_misfit_changes_nothing(tmp_path):
    save_bundle(build_bundle(_config(seed=1), TASKS, 8), tmp_path)
    other = build_bundle(_config(seed=2), TASKS, 5)
    before = _all_weights(other)
    with pytest.raises(RunError, match="does not fit this run's discriminator: layer logits has"):
        load_bundle_weights(other, tmp_path)
    assert _equal(before, _all_weights(other))


def test_load_of_damaged_or_missing_file_is_refused(tmp_path):
    bundle = build_bundle(_config(), TASKS, 8)
    with pytest.raises(RunError, match=r"cannot load .*encoder\.weights\.h5"):
        load_bundle_weights(bundle, tmp_path)
    save_bundle(bundle, tmp_path)
    whole = (tmp_path / "restorer.weights.h5").read_bytes()
    (tmp_path / "restorer.weights.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"cannot load .*restorer\.weights\.h5: not a readable"):
        load_bundle_weights(bundle, tmp_path)


@pytest.mark.parametrize(
    ("tasks", "private", "message"),
    [
        ({}, 8, "at least one business task"),
        ({"age": 1}, 8, r"age has 1 class\(es\)"),
        ({"age": 4}, 1, r"--private_label=iris: has 1 class\(es\)"),
    ],
)
def test_bundle_with_one_class_is_refused(tasks, private, message):
    with pytest.raises(UsageError, match=message):
        build_bundle(_config(), tasks, private)


@pytest.mark.parametrize(
    ("name", "usual", "wrong"),
    [
        ("image_data_format", "channels_last", "channels_first"),
        ("floatx", "float32", "float16"),
        ("dtype_policy", "float32", "mixed_float16"),
    ],
)
def test_build_bundle_with_other_keras_setting_is_refused(name, usual, wrong):
    setter = getattr(keras.config, f"set_{name}")
    setter(wrong)
    try:
        with pytest.raises(UsageError, match=f"{name} is {wrong}, expected {usual}") as error:
            build_bundle(tiny_config("stl"), {"gender": 2}, 0)
    finally:
        setter(usual)
    # The remedy is a call that can be copied.
    (call,) = [part for part in str(error.value).split() if part.startswith("keras.config.")]
    assert call == f"keras.config.set_{name}('{usual}')"
    build_bundle(tiny_config("stl"), {"gender": 2}, 0)
