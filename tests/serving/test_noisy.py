"""A run whose release is noisy: anew in each call; with the noise held, the run's own answers."""

import numpy as np
import pytest
import tensorflow as tf

from tests.fakes.pictures import picture
from tests.serving.runs import TASKS
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.removal.noise import count_draws, draw_anew, noiseless
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.region_maps import region_maps

IMAGES = np.stack([picture(seed, 32, 32) for seed in range(3)])
DEVIATION = 0.5


@pytest.fixture(scope="module")
def loaded(exported_noisy):
    return tf.saved_model.load(str(exported_noisy.folder))


def test_it_says_that_it_is_noisy(exported_noisy, exported):
    assert exported_noisy.labels["stochastic"] is True and exported.labels["stochastic"] is False
    assert exported_noisy.folder.name == "7" and exported_noisy.labels["version"] == 7


def test_the_noise_has_its_deviation_and_is_drawn_anew(loaded, noisy):
    batch = np.repeat(IMAGES[:1], 64, axis=0)
    picture = to_float(tf.constant(IMAGES[:1]))
    mean = noiseless(noisy.bundle.encoder)(picture, training=False).numpy()
    first, second = (
        loaded.signatures["encode"](images=tf.constant(batch))["features"].numpy() - mean
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
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < limit, "other noise in each call"
    assert abs(np.corrcoef(first[:32].ravel(), first[32:].ravel())[0, 1]) < 2 * limit, "and row"


def test_attributes_follow_the_noise(loaded):
    call = loaded.signatures["classify"]
    batch = tf.constant(np.repeat(IMAGES[:1], 64, axis=0))
    found = call(images=batch)["gender_probabilities"].numpy()
    assert found[:, 0].std() > 0.003, "rows of the same picture differ"


def test_with_the_noise_held_every_signature_answers_as_the_run(loaded, noisy):
    bundle = noisy.bundle
    (draws,) = [weight for weight in loaded.networks if weight.dtype == tf.int64]

    def served(signature):
        draws.assign([5, 0])
        found = loaded.signatures[signature](images=tf.constant(IMAGES))
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
    # The discriminator's evidence has no upper bound: shares of each map's maximum are given.
    expected = heat / heat.max((1, 2), keepdims=True)
    np.testing.assert_allclose(served("sensitive_regions")["map"], expected, atol=1e-5)
    draws.assign([0, 0])


def test_the_discriminator_is_in_it_where_it_was_asked_for(exported_noisy, noisy):
    path = str(exported_noisy.folder / "variables" / "variables")
    stored = sum(np.prod(shape) for name, shape in tf.train.list_variables(path) if "net" in name)
    networks = [model for _, model in noisy.bundle.items()]
    assert stored == sum(model.count_params() for model in networks)
    assert exported_noisy.labels["region_source"] == "discriminator"
