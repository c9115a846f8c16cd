"""Predictions in batches against the networks called by hand and formulas in NumPy and SciPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.training.inference import (
    compiled_forward,
    mean_image,
    predict_images,
    predict_rows,
)


def test_predict_run_equals_direct_calls_of_the_networks(bundle, dataset):
    rows = dataset.rows["test"][::-1]
    baseline = mean_image(dataset)
    found = predict_rows(bundle, dataset, rows, batch_size=8, mean_image=baseline)

    images = dataset.store.images(rows).astype(np.float32) / 255
    features = bundle.encoder(images, training=False)
    restored = bundle.restorer(features, training=False)
    again = bundle.business(bundle.encoder(restored, training=False), training=False)
    for task, logits in bundle.business(features, training=False).items():
        np.testing.assert_allclose(found.business[task], logits, atol=1e-5)
        np.testing.assert_allclose(found.business_on_restored[task], again[task], atol=1e-5)
        expected = dataset.all_labels.business[task][rows]
        np.testing.assert_array_equal(found.business_labels[task], expected)
    np.testing.assert_allclose(found.private_logits, bundle.discriminator(features), atol=1e-5)
    np.testing.assert_array_equal(found.private_labels, dataset.all_labels.private[rows])
    np.testing.assert_array_equal(found.index, rows)

    def psnr(guess):
        return 10 * np.log10(1 / np.mean((guess - images.astype(np.float64)) ** 2, axis=(1, 2, 3)))

    np.testing.assert_allclose(found.psnr, psnr(np.asarray(restored)), atol=1e-3)
    np.testing.assert_allclose(found.mean_image_psnr, psnr(baseline[None]), atol=1e-3)


def test_ssim_of_a_row_against_the_formula(bundle, dataset):
    rows = dataset.rows["test"][:3]
    found = predict_rows(bundle, dataset, rows)
    images = dataset.store.images(rows) / 255.0
    features = bundle.encoder(images.astype(np.float32), training=False)
    restored = np.asarray(bundle.restorer(features), np.float64)
    expected = [_ssim(a, b) for a, b in zip(images, restored, strict=True)]
    np.testing.assert_allclose(found.ssim, expected, atol=1e-4)


def _ssim(one, other):
    """Wang et al. (2004): 11x11 Gaussian window, sigma 1.5, valid positions, mean over channels."""
    from scipy.signal import convolve2d

    grid = np.arange(11) - 5
    line = np.exp(-(grid**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def blur(channel):
        return convolve2d(channel, window, mode="valid")

    values = []
    for x, y in zip(np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        top = (2 * mx * my + c1) * (2 * vxy + c2)
        values.append((top / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    return np.mean(values)


@pytest.mark.parametrize("batch_size", [1, 7, 31, 256])
def test_predict_rows_do_not_depend_on_the_batch_size(bundle, dataset, batch_size):
    rows = dataset.rows["test"]
    found = predict_rows(bundle, dataset, rows, batch_size=batch_size)
    usual = predict_rows(bundle, dataset, rows, batch_size=10)
    assert len(found.index) == len(rows)
    np.testing.assert_allclose(found.business["age"], usual.business["age"], atol=1e-5)
    np.testing.assert_allclose(found.psnr, usual.psnr, atol=1e-4)


def test_predict_rows_without_heads_gives_none(bundle, dataset):
    bare = dataclasses.replace(bundle, discriminator=None, restorer=None)
    found = predict_rows(bare, dataset, dataset.rows["test"])
    missing = ("private_logits", "psnr", "ssim", "business_on_restored", "mean_image_psnr")
    assert all(getattr(found, name) is None for name in missing)
    assert set(found.business) == {"gender", "age"}


def test_cached_graph_uses_current_weights(bundle, dataset):
    rows = dataset.rows["test"][:4]
    before = predict_rows(bundle, dataset, rows).business["age"]
    assert compiled_forward(bundle) is compiled_forward(bundle)
    bias = bundle.business.get_layer("age").bias
    old = bias.numpy()
    bias.assign(old + 1.0)
    after = predict_rows(bundle, dataset, rows).business["age"]
    bias.assign(old)
    np.testing.assert_allclose(after, before + 1.0, atol=1e-5)


def test_predict_rows_without_rows_is_an_error(bundle, dataset):
    with pytest.raises(ValueError, match="at least one row"):
        predict_rows(bundle, dataset, np.zeros(0, np.int64))


def test_mean_image_is_that_of_the_split(dataset):
    images = dataset.store.images(dataset.rows["train"])
    np.testing.assert_allclose(mean_image(dataset), images.mean(0) / 255, atol=1e-6)
    empty = dataclasses.replace(dataset, rows={"train": np.zeros(0, np.int64)})
    assert mean_image(empty) is None


def test_predict_images_matches_predict_rows(bundle, dataset):
    rows = dataset.rows["test"][:5]
    images = dataset.store.images(rows)
    found = predict_images(bundle, images, restore=True)
    logits = predict_rows(bundle, dataset, rows).business
    for task, values in found.probabilities.items():
        expected = np.exp(logits[task]) / np.exp(logits[task]).sum(1, keepdims=True)
        np.testing.assert_allclose(values, expected, atol=1e-5)
    assert found.restored.shape == images.shape and found.restored.dtype == np.uint8
    exact = bundle.restorer(bundle.encoder(tf.cast(images, tf.float32) / 255.0)) * 255
    assert np.abs(found.restored - np.asarray(exact)).max() <= 0.5 + 1e-3


def test_restoring_without_a_restorer_is_an_error(bundle, dataset):
    bare = dataclasses.replace(bundle, restorer=None)
    with pytest.raises(ValueError, match="no restorer"):
        predict_images(bare, dataset.store.images(dataset.rows["test"][:1]), restore=True)
