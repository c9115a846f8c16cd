"""TensorFlow Lite files answer about as the run itself, and say how far they do not."""

import numpy as np
import pytest

from tests.fakes.pictures import picture
from tests.serving.runs import TASKS
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.serving.device import compared, device_file, device_reader
from tf_mtl_privacy.training.predict_images import predict_images

IMAGES = np.stack([picture(seed, 32, 32) for seed in range(12)])


@pytest.mark.parametrize(("kind", "far"), [("float16", 0.02), ("int8", 0.5)])
def test_a_converted_run_answers_about_as_the_run(covered, kind, far):
    content = device_file(covered, kind, IMAGES)
    assert content[4:8] == b"TFL3"
    found = device_reader(content)(IMAGES)
    expected = predict_images(covered.bundle, IMAGES).probabilities
    assert set(found) == {f"{task}_probabilities" for task in TASKS}
    for task, values in expected.items():
        answers = found[f"{task}_probabilities"]
        assert answers.shape == values.shape and np.abs(answers - values).max() < far
        np.testing.assert_allclose(answers.sum(1), 1, atol=0.02)
        # It follows the pictures as the run does, not the mean picture.
        assert np.corrcoef(answers[:, 0], values[:, 0])[0, 1] > 0.7


def test_noise_on_the_features_is_refused(noisy):
    with pytest.raises(UsageError, match=r"--tflite=int8: .*--feature_noise=0.5"):
        device_file(noisy, "int8", IMAGES)


def test_the_comparison_by_hand():
    labels = {"gender": np.array([0, 1, 1, -1])}
    here = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    there = np.array([[0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    found = compared(
        {"gender_probabilities": here}, {"gender": there}, labels, {"gender": ("f", "m")}
    )["gender"]
    assert found["device"]["accuracy"] == pytest.approx(2 / 3) and found["device"]["n"] == 3
    assert found["original"]["accuracy"] == 1.0
    assert found["agreement"] == 0.75
