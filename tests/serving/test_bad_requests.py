"""What an exported model says to requests that it cannot answer, and that it goes on afterwards."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data.test_preprocess import BAD, JPEG
from tests.fakes.pictures import picture
from tests.serving.runs import single_task_run
from tf_mtl_privacy.export.signatures import build_signatures, missing_signatures
from tf_mtl_privacy.serving_signature import LARGEST_BATCH
from tf_mtl_privacy.training.inference import predict_images

SIZE = 32
# What the answer says; pictures that are damaged behind their header get the decoder's own words.
REASONS = {
    "empty file": "expected a JPEG, PNG or BMP picture",
    "not a JPEG": "expected a JPEG, PNG or BMP picture",
    "BMP with 8 bits": "expected a BMP picture of 24 or 32 bits",
    "1x1 pixels, smaller than 8x8": "at least 8x8 pixels and at most 50 megapixels",
    "9x7 pixels, smaller than 8x8": "at least 8x8 pixels and at most 50 megapixels",
    "8000x8000 pixels, more than 50 megapixels": "at least 8x8 pixels and at most 50 megapixels",
}


def ask(loaded, *files):
    return loaded.signatures["serving_default"](image_bytes=tf.constant(list(files)))


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_picture_is_an_invalid_argument_and_the_next_request_works(loaded, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=REASONS.get(reason)):
        ask(loaded, JPEG, BAD[reason])
    assert ask(loaded, JPEG)["gender_label"].shape == (1,)


def test_the_number_of_pictures_is_bounded(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 1 to 256 pictures"):
        loaded.signatures["serving_default"](image_bytes=tf.zeros((0,), tf.string))
    for count in (0, LARGEST_BATCH + 1):
        for signature in ("classify", "encode", "restore", "sensitive_regions"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="expected 1 to 256 pictures"):
                loaded.signatures[signature](images=tf.zeros((count, SIZE, SIZE, 3), tf.uint8))
    found = loaded.signatures["classify"](images=tf.zeros((LARGEST_BATCH, SIZE, SIZE, 3), tf.uint8))
    assert found["age_label"].shape == (LARGEST_BATCH,)


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (8000, 8000)])
def test_pixels_of_a_refused_size(loaded, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 8x8 pixels and at most 50"):
        loaded.signatures["classify"](images=tf.zeros((1, *shape, 3), tf.uint8))


def test_a_single_task_run_has_features_for_each_task_and_no_picture_of_them():
    run = single_task_run()
    _, signatures = build_signatures(run)
    assert set(signatures) == {"serving_default", "classify", "encode"}
    missing = missing_signatures(run)
    assert "has no restorer" in missing["restore"]
    assert "neither mask nor discriminator" in missing["sensitive_regions"]
    images = np.stack([picture(seed, SIZE, SIZE) for seed in range(2)])
    found, features = (signatures[key](tf.constant(images)) for key in ("classify", "encode"))
    for task, bundle in run.single_task.items():
        expected = predict_images(bundle, images).probabilities[task]
        np.testing.assert_allclose(found[f"{task}_probabilities"], expected, rtol=0, atol=1e-5)
        values = bundle.encoder(images / np.float32(255), training=False)
        np.testing.assert_allclose(features[f"{task}_features"], values, rtol=0, atol=1e-5)
