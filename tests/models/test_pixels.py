"""Features that carry the image's pixels, and the restorer that starts from them."""

import keras
import numpy as np
import pytest

from tf_mtl_privacy.config import ModelConfig, RemovalConfig
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.heads import LogOdds, build_restorer
from tf_mtl_privacy.models.layers import from_cells, to_cells
from tf_mtl_privacy.removal.mask import mask_map, region_finder, switch_mask

RNG = np.random.default_rng(1)
SMALL = ModelConfig(compact_width=8, feature_channels=4, pixel_path=True)


def pictures(rows=3, size=32):
    return RNG.uniform(0, 1, (rows, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(("stride", "channels"), [(2, 3), (4, 3), (4, 1), (8, 3)])
def test_to_cells_and_back(stride, channels):
    image = keras.Input((16, 16, channels))
    cells = keras.Model(image, to_cells(image, stride, "to"))
    back = keras.Model(image, from_cells(cells(image), stride, "from"))
    x = RNG.normal(size=(2, 16, 16, channels)).astype(np.float32)
    actual = cells(x).numpy()
    assert actual.shape == (2, 16 // stride, 16 // stride, stride**2 * channels)
    for row, column in ((0, 0), (1, 0), (0, 1)):
        rows, columns = (slice(k * stride, (k + 1) * stride) for k in (row, column))
        np.testing.assert_array_equal(actual[:, row, column], x[:, rows, columns].reshape(2, -1))
    np.testing.assert_array_equal(back(x), x)


def test_pixel_path_features_end_with_pixels():
    encoder, without = (
        build_encoder(config, 32, seed=2)
        for config in (SMALL, ModelConfig(compact_width=8, feature_channels=4))
    )
    images = pictures()
    features = encoder(images).numpy()
    assert features.shape == (3, 8, 8, 4 + 48)
    np.testing.assert_array_equal(features[..., :4], without(images))
    np.testing.assert_allclose(
        features[:, 1, 2, 4:], 2 * images[:, 4:8, 8:12].reshape(3, 48) - 1, atol=1e-6
    )


def _mean_psnr(actual, images):
    """Mean over images of 10 log10(1 / mean squared error)."""
    errors = np.mean((np.asarray(actual, np.float64) - images) ** 2, axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(1 / errors)))


@pytest.mark.parametrize("stride", [4, 8])
def test_pixel_path_untrained_restorer_returns_covered_image(stride):
    model = ModelConfig(compact_width=8, feature_channels=4, feature_stride=stride, pixel_path=True)
    removal = RemovalConfig(mask="learned", mask_width=8)
    encoder = build_encoder(model, 32, seed=3, removal=removal)
    shape = tuple(encoder.output_shape[1:])
    restorer = build_restorer(shape, stride, width=8, seed=3, pixel_path=True)
    # Within the range that the log-odds keep.
    images = 0.01 + 0.98 * pictures()
    assert _mean_psnr(restorer(encoder(images)), images) > 100
    last = [layer for layer in region_finder(encoder).layers if layer.weights][-1]
    last.bias.assign(np.zeros(last.bias.shape))
    last.kernel.assign(RNG.normal(0, 1, last.kernel.shape))
    switch_mask(encoder, on=True)
    covered = np.kron(mask_map(encoder)(images).numpy(), np.ones((1, 2, 2, 1)))
    assert 0.02 < covered.mean() < 0.98
    expected = np.where(covered > 0, 0.5, images)
    actual = restorer(encoder(images)).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert _mean_psnr(actual, images) == pytest.approx(_mean_psnr(expected, images), abs=0.01)


def test_pixel_path_restorer_can_learn_other_image():
    """The parts that start at zero have gradients."""
    restorer = build_restorer((4, 4, 52), 4, width=8, pixel_path=True)
    restorer.compile(keras.optimizers.Adam(3e-3), "mse")
    features = RNG.uniform(-0.9, 0.9, (16, 4, 4, 52)).astype(np.float32)
    target = np.repeat(np.repeat(0.5 + 0.4 * np.sign(features[..., :3]), 4, 1), 4, 2)
    before = restorer.evaluate(features, target, verbose=0)
    restorer.fit(features, target, epochs=60, batch_size=16, verbose=0, shuffle=False)
    after = restorer.evaluate(features, target, verbose=0)
    assert after < 0.8 * before
    for layer in ("colours", "details"):
        assert np.abs(restorer.get_layer(layer).kernel).max() > 0


def test_pixel_path_restorer_has_no_checkerboard():
    """For any weights; here the carried image is flat, too."""
    model = build_restorer((24, 24, 54), 4, width=12, pixel_path=True)
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(0, 0.3, variable.shape))
    cell = np.concatenate([RNG.normal(0, 1, 6), np.tile([0.2, -0.5, 0.7], 16)])
    constant = np.broadcast_to(cell, (1, 24, 24, 54)).astype(np.float32)
    before_sigmoid = keras.Model(model.input, model.get_layer("logits").output)
    interior = before_sigmoid(constant).numpy()[0, 32:-32, 32:-32]
    assert np.ptp(interior, axis=(0, 1)).max() < 1e-4 * max(1.0, np.abs(interior).max())
    # The control: a carried image that is not flat shows.
    other = constant.copy()
    other[..., -48:] = RNG.uniform(-0.9, 0.9, 48)
    assert np.ptp(before_sigmoid(other).numpy()[0, 32:-32, 32:-32], axis=(0, 1)).max() > 0.1


def test_log_odds():
    values = np.array([-2.0, -1.0, -0.5, 0.0, 0.6, 1.0, 3.0], np.float32)
    share = np.array([0.005, 0.005, 0.25, 0.5, 0.8, 0.995, 0.995])
    np.testing.assert_allclose(LogOdds()(values), np.log(share / (1 - share)), rtol=1e-4, atol=1e-6)
    # The sigmoid gives the share back.
    np.testing.assert_allclose(keras.ops.sigmoid(LogOdds()(values)), share, rtol=1e-5)


def test_restorer_without_pixel_path_keeps_its_initial_weights():
    plain, carried = (
        build_restorer((4, 4, 52), 4, width=8, seed=1, pixel_path=path) for path in (False, True)
    )
    assert plain.count_params() == carried.count_params()
    assert np.abs(plain.get_layer("colours").kernel).max() > 0
    assert np.abs(carried.get_layer("colours").kernel).max() == 0
    np.testing.assert_array_equal(plain.get_layer("in").kernel, carried.get_layer("in").kernel)
