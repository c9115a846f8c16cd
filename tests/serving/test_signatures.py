"""Signatures of an exported model: the run's own outputs, bad requests, preparation, and noise."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.test_preprocess import BAD, JPEG
from tests.fakes.pictures import encoded, picture
from tests.serving import loading
from tests.serving.exports import TASKS, single_task_run
from tf_mtl_privacy.data.preprocess import read_picture, to_float
from tf_mtl_privacy.export.signatures import (
    build_signatures,
    missing_signatures,
    prepare_files,
    prepare_images,
)
from tf_mtl_privacy.removal.noise import count_draws, draw_anew, noiseless
from tf_mtl_privacy.serving_signature import MAX_REQUEST_ROWS
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.region_maps import region_maps

SIZE = 32


def turned():
    """Returns a JPEG with an EXIF orientation."""
    image = Image.fromarray(picture(4, 60, 90))
    exif = image.getexif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", quality=92, exif=exif)


def transparent():
    """Returns a PNG with a half-transparent left half."""
    alpha = np.full((50, 70, 1), 255, np.uint8)
    alpha[:, :35] = 90
    return encoded(np.concatenate([picture(5, 50, 70), alpha], axis=-1), "PNG")


FILES = [
    encoded(picture(1), "JPEG", quality=90),
    encoded(picture(2, 40, 64), "PNG"),
    encoded(picture(3, 80, 80), "JPEG", "L"),
    encoded(picture(6, SIZE, SIZE), "PNG"),
    turned(),
    transparent(),
]
# Pixels of other sizes and of the model's size.
PIXELS = {"large": (2, 71, 50), "ready": (3, SIZE, SIZE), "small": (1, 9, 8)}


def pixels(case):
    count, height, width = PIXELS[case]
    return np.stack([picture(10 + seed, height, width) for seed in range(count)])


def prepared(case):
    """Prepares the same pictures, losslessly encoded, as `predict` does."""
    files = FILES if case == "files" else [encoded(image, "PNG") for image in pixels(case)]
    return np.stack([read_picture(file, SIZE, "auto") for file in files])


@pytest.fixture(scope="module")
def answers(exported, session_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    given = {"files|serving_default|image_bytes": loading.packed(FILES)}
    for case in PIXELS:
        for signature in ("classify", "encode", "restore", "sensitive_regions"):
            given[f"{case}|{signature}|images"] = pixels(case)
    np.savez(folder / "in.npz", **given)
    done = session_python(loading.__file__, exported.folder, folder / "in.npz", folder / "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz", allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("case", ["files", *PIXELS])
def test_signatures_attributes_match_predict(case, answers, covered):
    expected = predict_images(covered.bundle, prepared(case)).probabilities
    signature = "serving_default" if case == "files" else "classify"
    for task, classes in TASKS.items():
        found = answers[f"{case}|{signature}|{task}_probabilities"]
        np.testing.assert_allclose(found, expected[task], rtol=0, atol=1e-5)
        assert found.dtype == np.float32
        assert len(found) == 1 or np.ptp(found, axis=0).max() > 0.01, (
            "the answers depend on the pictures"
        )
        labels = answers[f"{case}|{signature}|{task}_label"].astype(str)
        assert labels.tolist() == [classes[place] for place in expected[task].argmax(1)]
        names = answers[f"{case}|{signature}|{task}_classes"].astype(str)
        assert names.tolist() == [list(classes)] * len(found)


@pytest.mark.parametrize("case", PIXELS)
def test_signatures_features_restored_images_and_maps_match_the_run(case, answers, covered):
    images = prepared(case)
    features = covered.bundle.encoder(to_float(tf.constant(images)), training=False)
    restored = covered.bundle.restorer(features, training=False)
    heat, hidden = region_maps(covered.bundle)(images)
    for key, expected in (
        ("encode|features", features),
        ("restore|restored", restored),
        ("sensitive_regions|map", heat),
    ):
        found = answers[f"{case}|{key}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert found.dtype == np.float32 and found.std() > 1e-3, "the output is not constant"
    assert 0 < hidden.mean() < 1, "the mask is on"
    assert 0 <= answers[f"{case}|restore|restored"].min() <= heat.max() <= 1


def test_export_contains_released_networks_only(exported, covered):
    """Every stored variable belongs to a released network; the discriminator is not released."""
    path = str(exported.folder / "variables" / "variables")
    stored = [
        tuple(shape)
        for name, shape in tf.train.list_variables(path)
        if name.startswith("networks/")
    ]
    bundle = covered.bundle
    released = [
        tuple(weight.shape)
        for model in (bundle.encoder, bundle.business, bundle.restorer)
        for weight in model.weights
    ]
    assert sorted(stored) == sorted(released)
    hidden = [tuple(weight.shape) for weight in bundle.discriminator.weights]
    assert sum(map(np.prod, hidden)) > 0
    names = {name for name, _ in tf.train.list_variables(path)} - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert all(name.startswith("networks/") for name in names)


# Messages; pictures damaged after their header get the decoder's own message.
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
def test_signature_bad_picture_is_refused_and_the_next_request_works(loaded, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=REASONS.get(reason)):
        ask(loaded, JPEG, BAD[reason])
    assert ask(loaded, JPEG)["gender_label"].shape == (1,)


def test_signatures_limit_the_number_of_pictures(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 1 to 256 pictures"):
        loaded.signatures["serving_default"](image_bytes=tf.zeros((0,), tf.string))
    for count in (0, MAX_REQUEST_ROWS + 1):
        for signature in ("classify", "encode", "restore", "sensitive_regions"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="expected 1 to 256 pictures"):
                loaded.signatures[signature](images=tf.zeros((count, SIZE, SIZE, 3), tf.uint8))
    found = loaded.signatures["classify"](
        images=tf.zeros((MAX_REQUEST_ROWS, SIZE, SIZE, 3), tf.uint8)
    )
    assert found["age_label"].shape == (MAX_REQUEST_ROWS,)


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (8000, 8000)])
def test_signature_pixels_of_a_refused_size_raise(loaded, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 8x8 pixels and at most 50"):
        loaded.signatures["classify"](images=tf.zeros((1, *shape, 3), tf.uint8))


def test_build_signatures_single_task_run_has_features_for_each_task():
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


SHAPES = [(90, 60), (33, 32), (SIZE, SIZE), (8, 11)]


@pytest.mark.parametrize("crop", ["center", "inner", "none"])
def test_prepare_images_and_files_match_read_picture(crop):
    images_spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
    prepare = tf.function(prepare_images(SIZE, crop), input_signature=[images_spec])
    decode = tf.function(
        prepare_files(SIZE, crop), input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    for shape in SHAPES:
        images = np.stack([picture(seed, *shape) for seed in range(3)])
        files = [encoded(image, "PNG") for image in images]
        expected = [read_picture(file, SIZE, crop) for file in files]
        prepared = prepare(tf.constant(images))
        assert prepared.dtype == tf.uint8
        np.testing.assert_array_equal(prepared, expected)
        np.testing.assert_array_equal(decode(tf.constant(files)), expected)
        unchanged = shape == (SIZE, SIZE) and crop != "inner"
        assert np.array_equal(prepared, images) == unchanged
    # Files of one request may differ in size.
    files = [encoded(picture(seed, *shape), "JPEG") for seed, shape in enumerate(SHAPES)]
    expected = [read_picture(file, SIZE, crop) for file in files]
    np.testing.assert_array_equal(decode(tf.constant(files)), expected)


IMAGES = np.stack([picture(seed, 32, 32) for seed in range(3)])
DEVIATION = 0.5


@pytest.fixture(scope="module")
def loaded_noisy(exported_noisy):
    return tf.saved_model.load(str(exported_noisy.folder))


def test_labels_stochastic_is_true_for_noise(exported_noisy, exported):
    assert exported_noisy.labels["stochastic"] is True and exported.labels["stochastic"] is False
    assert exported_noisy.folder.name == "7" and exported_noisy.labels["version"] == 7


def test_noise_has_its_deviation_and_is_independent_between_calls(loaded_noisy, noisy):
    batch = np.repeat(IMAGES[:1], 64, axis=0)
    picture = to_float(tf.constant(IMAGES[:1]))
    mean = noiseless(noisy.bundle.encoder)(picture, training=False).numpy()
    first, second = (
        loaded_noisy.signatures["encode"](images=tf.constant(batch))["features"].numpy() - mean
        for _ in range(2)
    )
    for noise in (first, second):
        # Six standard errors: of the mean, of the deviation, of the share within one deviation.
        n = noise.size
        assert abs(noise.mean()) < 6 * DEVIATION / n**0.5
        assert abs(noise.std() / DEVIATION - 1) < 6 / (2 * n) ** 0.5
        within = (np.abs(noise) < DEVIATION).mean()
        assert abs(within - 0.6827) < 6 * (0.6827 * 0.3173 / n) ** 0.5
    limit = 6 / first.size**0.5
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < limit, (
        "independent between calls"
    )
    assert abs(np.corrcoef(first[:32].ravel(), first[32:].ravel())[0, 1]) < 2 * limit, (
        "and between rows"
    )


def test_signatures_with_fixed_noise_match_the_run(loaded_noisy, noisy):
    bundle = noisy.bundle
    (draws,) = [weight for weight in loaded_noisy.networks if weight.dtype == tf.int64]

    def served(signature):
        draws.assign([5, 0])
        found = loaded_noisy.signatures[signature](images=tf.constant(IMAGES))
        return {key: value.numpy() for key, value in found.items()}

    def of_run(compute):
        count_draws(bundle.encoder, 5)
        return compute()

    try:
        predicted = of_run(lambda: predict_images(bundle, IMAGES)).probabilities
        features = of_run(lambda: bundle.encoder(to_float(tf.constant(IMAGES)), training=False))
        heat = of_run(lambda: region_maps(bundle)(IMAGES)).heat
    finally:
        draw_anew(bundle.encoder)
    found = served("classify")
    for task in TASKS:
        np.testing.assert_allclose(found[f"{task}_probabilities"], predicted[task], atol=1e-5)
    np.testing.assert_allclose(served("encode")["features"], features, atol=1e-5)
    restored = bundle.restorer(features, training=False)
    np.testing.assert_allclose(served("restore")["restored"], restored, atol=1e-5)
    # The discriminator's evidence has no upper bound, so each map is divided by its maximum.
    expected = heat / heat.max((1, 2), keepdims=True)
    np.testing.assert_allclose(served("sensitive_regions")["map"], expected, atol=1e-5)
    draws.assign([0, 0])


def test_export_with_discriminator_contains_it(exported_noisy, noisy):
    path = str(exported_noisy.folder / "variables" / "variables")
    stored = sum(np.prod(shape) for name, shape in tf.train.list_variables(path) if "net" in name)
    networks = [model for _, model in noisy.bundle.items()]
    assert stored == sum(model.count_params() for model in networks)
    assert exported_noisy.labels["region_source"] == "discriminator"
