"""The evaluation part of results.json."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics

from tf_mtl_privacy.evaluation.summary import evaluation_summary
from tf_mtl_privacy.evaluation.utility import restoration
from tf_mtl_privacy.training.inference import mean_image, predict_rows


@pytest.fixture(scope="module")
def predictions(bundle, dataset):
    return predict_rows(bundle, dataset, dataset.rows["test"], mean_image=mean_image(dataset))


def _summary(predictions, dataset, **changes):
    arguments = {
        "task_classes": dataset.task_classes,
        "private_classes": dataset.private_classes,
        "rows_per_split": {name: len(rows) for name, rows in dataset.rows.items()},
        "damaged": 2,
    }
    return evaluation_summary(predictions, **{**arguments, **changes})


def test_evaluation_summary_equals_its_parts(predictions, dataset):
    found = _summary(predictions, dataset)
    for task in dataset.task_classes:
        labels = predictions.business_labels[task]
        known = labels >= 0
        for part, logits in (
            ("utility", predictions.business),
            ("utility_on_restored", predictions.business_on_restored),
        ):
            guess = logits[task][known].argmax(1)
            expected = metrics.accuracy_score(labels[known], guess)
            assert found[part][task]["accuracy"] == pytest.approx(expected)
            assert found[part][task]["n"] == known.sum()
        assert found["counts"]["unknown_labels"][task] == (~known).sum()
    known = predictions.private_labels >= 0
    truth, guess = predictions.private_labels[known], predictions.private_logits[known].argmax(1)
    discriminator = found["privacy"]["discriminator"]
    assert discriminator["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert discriminator["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(truth, guess)
    )
    assert discriminator["n"] == known.sum()
    assert found["privacy"]["chance"] == 0.25 and found["privacy"]["classes"] == 4
    assert found["privacy"]["majority"] == np.bincount(truth).max() / truth.size
    assert found["restoration"]["psnr_db"] == pytest.approx(predictions.psnr.mean(), rel=1e-6)
    assert found["restoration"]["mean_image_psnr_db"] == pytest.approx(
        predictions.mean_image_psnr.mean(), rel=1e-6
    )
    assert found["counts"]["rows"] == {"train": 20, "validation": 10, "test": 31}
    assert found["counts"]["evaluated"] == 31 and found["counts"]["damaged"] == 2
    json.dumps(found, allow_nan=False)


def test_evaluation_summary_without_discriminator_and_restorer_is_none(bundle, dataset):
    bare = dataclasses.replace(bundle, discriminator=None, restorer=None)
    found = _summary(predict_rows(bare, dataset, dataset.rows["test"]), dataset)
    assert found["utility_on_restored"] is None
    assert found["restoration"]["psnr_db"] is None
    assert found["restoration"]["reason"] == "the model has no restorer"
    assert found["privacy"]["discriminator"] is None
    assert found["privacy"]["reason"] == "the model has no discriminator"
    assert found["privacy"]["chance"] == 0.25 and found["privacy"]["majority"] > 0.25


def test_evaluation_summary_states_why_there_is_no_discriminator(predictions, dataset):
    without = predictions._replace(private_logits=None)
    found = _summary(without, dataset, no_discriminator="another private label")
    assert found["privacy"]["reason"] == "another private label"


def test_evaluation_summary_without_a_private_label_has_a_reason(predictions, dataset):
    none = predictions._replace(private_labels=np.full(31, -1, np.int32), private_logits=None)
    found = _summary(none, dataset, private_classes=())
    assert found["privacy"]["chance"] is None
    assert found["privacy"]["reason"] == "the data set has no private label"
    assert "private_label" not in found["subgroups"]["gender"]


def test_evaluation_summary_without_known_private_labels_has_a_reason(predictions, dataset):
    unknown = predictions._replace(private_labels=np.full(31, -1, np.int32))
    found = _summary(unknown, dataset)
    assert found["privacy"]["majority"] is None
    assert found["privacy"]["discriminator"]["accuracy"] is None
    assert found["privacy"]["discriminator"]["reason"] == "no row has a label"


def test_restoration_averages_psnr_over_images():
    # Two images at 20 and 40 dB: the mean is 30 dB, that of the errors would give 22.97 dB.
    found = restoration(np.array([20.0, 40.0]), np.array([0.5, 1.0]), None)
    assert found["psnr_db"] == 30.0 and found["ssim"] == 0.75 and found["n"] == 2
    assert found["mean_image_psnr_db"] is None and "mean_image_reason" in found
