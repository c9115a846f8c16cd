"""An exported model answers as the run's own networks, in a process that knows no such package."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.fakes.pictures import encoded, picture
from tests.serving import loading
from tests.serving.runs import TASKS
from tf_mtl_privacy.data.preprocess import read_picture, to_float
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.region_maps import region_maps

SIZE = 32


def turned():
    """A JPEG that its Exif part asks to turn."""
    image = Image.fromarray(picture(4, 60, 90))
    exif = image.getexif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", quality=92, exif=exif)


def transparent():
    """A PNG whose left half lets the ground through."""
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
# Pixels of other sizes than the model's, and of its own.
PIXELS = {"large": (2, 71, 50), "ready": (3, SIZE, SIZE), "small": (1, 9, 8)}


def pixels(case):
    count, height, width = PIXELS[case]
    return np.stack([picture(10 + seed, height, width) for seed in range(count)])


def prepared(case):
    """What predicting makes of the same pictures as files without loss."""
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
def test_attributes_are_those_of_predict(case, answers, covered):
    expected = predict_images(covered.bundle, prepared(case)).probabilities
    signature = "serving_default" if case == "files" else "classify"
    for task, classes in TASKS.items():
        found = answers[f"{case}|{signature}|{task}_probabilities"]
        np.testing.assert_allclose(found, expected[task], rtol=0, atol=1e-5)
        assert found.dtype == np.float32
        assert len(found) == 1 or np.ptp(found, axis=0).max() > 0.01, "it looks at the pictures"
        labels = answers[f"{case}|{signature}|{task}_label"].astype(str)
        assert labels.tolist() == [classes[place] for place in expected[task].argmax(1)]
        names = answers[f"{case}|{signature}|{task}_classes"].astype(str)
        assert names.tolist() == [list(classes)] * len(found)


@pytest.mark.parametrize("case", PIXELS)
def test_features_restored_images_and_maps_are_those_of_the_run(case, answers, covered):
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
        assert found.dtype == np.float32 and found.std() > 1e-3, "it says something"
    assert 0 < hidden.mean() < 1, "the mask is on"
    assert 0 <= answers[f"{case}|restore|restored"].min() <= heat.max() <= 1


def test_nothing_that_is_not_released_is_in_the_file(exported, covered):
    """All variables are accounted for by the released networks; the discriminator is none."""
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
