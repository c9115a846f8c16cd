"""Encoders: shapes, ranges, taps, freezing, weight files."""

import os
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.weights import TAPS

RNG = np.random.default_rng(0)
NARROW = {"encoder": "compact", "compact_width": 8, "feature_channels": 4}


def _images(size, rows=2):
    return RNG.uniform(0, 1, (rows, size, size, 3)).astype(np.float32)


def _saved(model, path):
    model.save_weights(path)
    return str(path)


def _differing_layers(first, second):
    return {
        a.name
        for a, b in zip(first.layers, second.layers, strict=True)
        if any(
            not np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True)
        )
    }


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("size", [32, 48, 64])
def test_compact_shapes(stride, size):
    encoder = build_encoder(ModelConfig(**NARROW, feature_stride=stride), size)
    features = encoder(_images(size))
    assert features.shape == (2, size // stride, size // stride, 4)
    assert features.dtype == "float32" and np.isfinite(features).all()


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("stride", [4, 32])
def test_pretrained_shapes(name, stride):
    config = ModelConfig(encoder=name, feature_stride=stride, feature_channels=6)
    encoder = build_encoder(config, 96)
    assert encoder(_images(96)).shape == (2, 96 // stride, 96 // stride, 6)
    names = [layer.name for layer in encoder.layers]
    last = max(stride_ for stride_ in TAPS[name] if stride_ <= stride)
    assert TAPS[name][last] in names
    if stride == 4:
        assert TAPS[name][8] not in names


@pytest.mark.parametrize("name", ["compact", "mobilenet_v2"])
def test_adapter_is_last_and_normalises(name):
    encoder = build_encoder(ModelConfig(encoder=name), 64)
    assert [layer.name for layer in encoder.layers[-2:]] == ["adapter_conv", "adapter_norm"]
    assert isinstance(encoder.layers[-1], keras.layers.GroupNormalization)
    features = encoder(_images(64)).numpy().reshape(2, -1)
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=1), 1, atol=1e-2)


def test_compact_encoder_keeps_rows_independent():
    encoder = build_encoder(ModelConfig(**NARROW), 32)
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in encoder.layers)
    images = _images(32, 6)
    other = images.copy()
    other[3:] = _images(32, 3)
    before, after = encoder(images, training=True), encoder(other, training=True)
    np.testing.assert_allclose(before[:3], after[:3], atol=1e-6)
    assert np.abs(before[3:] - after[3:]).max() > 0.1


def test_small_detail_reaches_features():
    """One changed pixel moves the cells around it, and those far more than the rest."""
    encoder = build_encoder(ModelConfig(), 64)
    image = _images(64, 1)
    changed = image.copy()
    changed[0, 21, 33] = 1 - np.round(image[0, 21, 33])
    moved = np.abs(encoder(changed) - encoder(image))[0].max(axis=-1)
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    assert abs(row - 5) <= 1 and abs(column - 8) <= 1
    assert moved.max() > 0.05 and moved.max() > 10 * np.median(moved)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_normalisation_is_that_of_keras_applications(name):
    """The scaled input is what `preprocess_input` makes of the same image in [0, 255]."""
    module = {"resnet50": "resnet50", "mobilenet_v2": "mobilenet_v2"}[name]
    preprocess = getattr(keras.applications, module).preprocess_input
    encoder = build_encoder(ModelConfig(encoder=name), 64)
    scaled = keras.Model(encoder.input, encoder.get_layer("scale").output)
    images = _images(64)
    np.testing.assert_allclose(scaled(images), preprocess(images * 255.0), atol=1e-3)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("size", [32, 72, 100])
def test_unsupported_image_size_is_refused(name, size):
    with pytest.raises(UsageError, match=f"--image_size={size}: {name} takes multiples of 32"):
        build_encoder(ModelConfig(encoder=name), size)


@pytest.mark.parametrize("name", ["compact", "mobilenet_v2"])
def test_same_seed_same_weights(name):
    config = ModelConfig(encoder=name)
    first, same, other = (build_encoder(config, 64, seed=seed) for seed in (5, 5, 6))
    assert _differing_layers(first, same) == set()
    kernels = {x.name for x in first.layers if any("kernel" in w.name for w in x.weights)}
    assert _differing_layers(first, other) == kernels


def test_frozen_backbone(tmp_path):
    free = ModelConfig(encoder="mobilenet_v2")
    source = build_encoder(free, 64, seed=1)
    path = _saved(source, tmp_path / "e.weights.h5")
    frozen = build_encoder(
        ModelConfig(encoder="mobilenet_v2", encoder_weights=path, freeze_backbone=True), 64
    )
    assert {w.path.split("/")[0] for w in frozen.trainable_variables} == {
        "adapter_conv",
        "adapter_norm",
    }
    images = _images(64, 4)
    # Inference mode even if called with training=True: independent rows, fixed statistics.
    statistics = [w.numpy() for w in frozen.non_trainable_variables]
    np.testing.assert_array_equal(frozen(images, training=True), frozen(images, training=False))
    for before, after in zip(statistics, frozen.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.abs(source(images, training=True) - source(images, training=False)).max() > 1e-3


def test_own_weights_file_gives_same_features(tmp_path):
    source = build_encoder(ModelConfig(**NARROW), 32, seed=1)
    path = _saved(source, tmp_path / "e.weights.h5")
    loaded = build_encoder(ModelConfig(**NARROW, encoder_weights=path), 32, seed=2)
    images = _images(32)
    np.testing.assert_array_equal(source(images), loaded(images))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_keras_applications_file_is_loaded(tmp_path, suffix):
    """A headless network of keras.applications, in each of its formats, up to the tap."""
    application = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    path = tmp_path / f"mobilenet{suffix}"
    if suffix == ".weights.h5":
        application.save_weights(path)
    else:
        application.save(path)
    config = ModelConfig(encoder="mobilenet_v2", encoder_weights=str(path), feature_stride=8)
    encoder = build_encoder(config, 64)
    tap = keras.Model(application.input, application.get_layer(TAPS["mobilenet_v2"][8]).output)
    ours = keras.Model(encoder.input, encoder.get_layer(TAPS["mobilenet_v2"][8]).output)
    images = _images(64)
    np.testing.assert_allclose(ours(images), tap(images * 2 - 1), atol=1e-5)


def test_file_with_other_shapes_changes_nothing(tmp_path):
    wide = build_encoder(ModelConfig(encoder="compact", compact_width=16), 32)
    path = _saved(wide, tmp_path / "wide.weights.h5")
    with pytest.raises(
        UsageError,
        match=r"wide\.weights\.h5 does not fit encoder compact: layer stem has shapes "
        r"5x5x3x16 16, expected 5x5x3x8 8; give the weights of encoder compact",
    ):
        build_encoder(ModelConfig(**NARROW, encoder_weights=path), 32)


def test_file_of_another_stride_is_not_loaded_in_part(tmp_path):
    deep = build_encoder(ModelConfig(encoder="compact", compact_width=8, feature_stride=8), 32)
    path = _saved(deep, tmp_path / "deep.weights.h5")
    with pytest.raises(UsageError, match="does not fit encoder compact"):
        build_encoder(ModelConfig(encoder="compact", compact_width=8, encoder_weights=path), 32)


def test_file_with_another_adapter(tmp_path):
    source = build_encoder(ModelConfig(encoder="mobilenet_v2", feature_channels=8), 64)
    path = _saved(source, tmp_path / "e.weights.h5")
    with pytest.raises(UsageError, match="layer adapter_conv has shapes 1x1x24x8 8"):
        build_encoder(ModelConfig(encoder="mobilenet_v2", encoder_weights=path), 64)


def test_file_of_other_network_is_refused(tmp_path):
    source = build_encoder(ModelConfig(**NARROW), 32)
    path = _saved(source, tmp_path / "compact.weights.h5")
    with pytest.raises(UsageError, match="it has no layer Conv1; give the weights of encoder mob"):
        build_encoder(ModelConfig(encoder="mobilenet_v2", encoder_weights=path), 64)


def test_unreadable_file_is_refused(tmp_path):
    empty, noise, archive = (tmp_path / name for name in ("a.h5", "b.h5", "c.keras"))
    with h5py.File(empty, "w"):
        pass
    noise.write_bytes(os.urandom(100))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
    for path in (empty, noise, archive, tmp_path):
        expected = "no such file" if path == tmp_path else "not a readable Keras weights file"
        with pytest.raises(UsageError, match=expected):
            build_encoder(ModelConfig(**NARROW, encoder_weights=str(path)), 32)


def test_file_with_non_finite_values_is_refused(tmp_path):
    source = build_encoder(ModelConfig(**NARROW), 32)
    source.get_layer("stem").bias.assign(np.full(8, np.nan))
    path = _saved(source, tmp_path / "nan.weights.h5")
    with pytest.raises(UsageError, match="layer stem has values that are not finite"):
        build_encoder(ModelConfig(**NARROW, encoder_weights=path), 32)
