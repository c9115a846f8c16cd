"""The membership figure of the checks during training, on networks with known outputs."""

import dataclasses

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_curve

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation.membership.attacks import halves
from tf_mtl_privacy.evaluation.training_checks import success_rate
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed

SIZE = 4


def networks():
    """B says for class 1 how much more red than green a picture is."""
    pictures = keras.Input([SIZE, SIZE, 3])
    encoder = keras.Model(pictures, keras.layers.Activation("linear")(pictures))
    features = keras.Input([SIZE, SIZE, 3])
    answer = keras.layers.Dense(2, use_bias=False, name="gender")
    head = answer(keras.layers.GlobalAveragePooling2D()(features))
    answer.set_weights([np.array([[0.0, 8.0], [8.0, 0.0], [0.0, 0.0]], np.float32)])
    return Bundle(encoder, keras.Model(features, {"gender": head}))


def data(surety, train, validation, known=True):
    """Rows whose pictures show their label as clearly as `surety(row)` in [0, 1] says."""
    total = train + validation
    labels = np.arange(total) % 2
    images = np.zeros((total, SIZE, SIZE, 3), np.uint8)
    strength = np.round(255 * np.array([surety(row) for row in range(total)])).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, :, :, 0 if label else 1] = strength[row]
    gender = labels if known else np.full(total, -1)
    return Dataset.from_arrays(
        images,
        {"gender": gender},
        np.arange(total) % 3,
        split=np.repeat([0, 1], [train, validation]),
        task_classes={"gender": ("0", "1")},
    )


def test_success_rate_finds_rows_with_higher_confidence():
    assert success_rate(networks(), data(lambda row: 1.0 if row < 60 else 0.3, 60, 40), 0) == 1


def test_success_rate_of_random_confidence_is_chance():
    draw = np.random.default_rng(0)
    rates = [
        success_rate(networks(), data(lambda row: draw.random(), 600, 500), seed)
        for seed in range(4)
    ]
    assert np.mean(rates) == pytest.approx(0.05, abs=0.04)


def test_success_rate_equals_scikit_learn_on_the_reporting_half():
    draw = np.random.default_rng(1)
    count = 200
    strengths = np.concatenate([draw.beta(5, 2, count), draw.beta(2, 2, count)])
    found = success_rate(networks(), data(lambda row: strengths[row], count, count), 0)
    # All four thresholds order these rows alike: the surer, the clearer the picture.
    chosen = np.round(255 * strengths)
    order = np.random.default_rng(layer_seed(0, "membership/check/rows"))
    for _ in range(2):
        order.permutation(count)
    split = halves(count, count, layer_seed(0, "membership/check/halves"))
    reporting = ~split.choosing
    fpr, tpr, _ = roc_curve(split.member[reporting], chosen[reporting], drop_intermediate=False)
    assert found == pytest.approx(np.interp(0.05, fpr, tpr), abs=0.02) and 0.1 < found < 0.9


def test_success_rate_uses_at_most_the_given_rows():
    dataset, read = data(lambda row: 0.5, 120, 90), []

    class Store:
        def images(self, rows):
            read.append(rows)
            return dataset.store.images(rows)

    success_rate(networks(), dataclasses.replace(dataset, store=Store()), 0, max_members=30)
    (rows,) = read
    assert len(np.unique(rows)) == 60
    assert np.isin(rows[:30], dataset.rows["train"]).all()
    assert np.isin(rows[30:], dataset.rows["validation"]).all()
    # As many of one side as of the other.
    read.clear()
    success_rate(networks(), dataclasses.replace(dataset, store=Store()), 0)
    assert np.isin(read[0], dataset.rows["train"]).sum() == 90 == len(read[0]) / 2


def test_success_rate_with_few_rows_or_labels_is_none():
    assert success_rate(networks(), data(lambda row: 0.5, 60, 19), 0) is None
    assert success_rate(networks(), data(lambda row: 0.5, 19, 60), 0) is None
    # Without labels the entropy is left: it needs none.
    surer = data(lambda row: 1.0 if row < 60 else 0.3, 60, 40, known=False)
    assert success_rate(networks(), surer, 0) == 1
