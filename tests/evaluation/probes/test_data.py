"""Rows of attackers, the forms in which they are read, and scores."""

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval
from tf_mtl_privacy.evaluation.probes.data import (
    Inputs,
    balanced_accuracy,
    figures,
    own_rows,
    row_weights,
    unseen_rows,
)


def test_figures_equal_scikit_learn():
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(300, 5)), rng.integers(0, 4, 300)
    found = figures(scores, labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, scores.argmax(1)))
    # The fifth class has no rows: guesses of it are wrong, and that is all.
    with warnings.catch_warnings(action="ignore"):
        expected = balanced_accuracy_score(labels, scores.argmax(1))
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert balanced_accuracy(scores, labels) == found["balanced_accuracy"]
    assert found["ci95"][0] < found["accuracy"] < found["ci95"][1] and found["n"] == 300


def test_figures_balanced_interval_uses_the_rows_of_each_class():
    labels = np.repeat([0, 1], [90, 10])
    scores = np.eye(2)[np.where(np.arange(100) < 95, 0, 1)]
    # All of the first class and half of the second are read.
    found = figures(scores, labels)
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["balanced_ci95"] == balanced_accuracy_interval([90, 5], [90, 10])
    assert found["accuracy"] > found["balanced_ci95"][1], "accuracy is that of the frequent class"


def test_row_weights_equal_scikit_learn_up_to_the_bound():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    expected = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(row_weights(labels, 5), expected, rtol=1e-6)
    assert row_weights(labels, 5, max_weight=2.0).max() == 2.0
    assert (row_weights(np.arange(8) % 4, 4) == 1).all()


def test_blind_hides_test_labels():
    data = make_target()
    blind = data.blind()
    assert not blind.test_labels.any() and data.test_labels.any()
    assert blind.test is data.test and blind.validation_labels is data.validation_labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_labels": np.zeros(3, np.int32)}, "test: rows"),
        ({"validation": np.zeros((120, 5), np.float32)}, "validation: rows"),
        ({"train_labels": np.full(240, 3, np.int32)}, r"train: expected labels in \[0, 3\)"),
        ({"train_labels": np.full(240, -1, np.int32)}, "train: expected labels"),
        ({"test": np.full((160, 6, 6, 4), np.nan, np.float32)}, "test: values are not finite"),
        (
            {"test": np.zeros((0, 6, 6, 4), np.float32), "test_labels": np.zeros(0, np.int32)},
            "test: expected at least one row",
        ),
    ],
)
def test_probe_data_with_mismatched_rows_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(make_target(), **changes)


def rescaled(data, scale, offset=0.0):
    parts = ("train", "validation", "test")
    changes = {part: (getattr(data, part) * scale + offset).astype(np.float32) for part in parts}
    return dataclasses.replace(data, **changes)


def test_standardised_equals_scikit_learn():
    data = make_target(leak=0.5)
    found = Inputs(rescaled(data, 3.0, 7.0), 8, 0).standardised
    scaler = StandardScaler().fit(data.train.reshape(240, -1))
    for part, rows in zip(found, (data.train, data.validation, data.test), strict=True):
        expected = scaler.transform(rows.reshape(len(rows), -1))
        np.testing.assert_allclose(part, expected, atol=1e-4)
        assert part.dtype == np.float32


def test_whitened_is_uncorrelated_with_unit_variance():
    found = Inputs(make_target(shape=(5, 5, 2), leak=1.0), 12, 0).whitened
    assert found.train.shape == (240, 12) and found.test.shape == (160, 12)
    np.testing.assert_allclose(np.cov(found.train.T), np.eye(12), atol=1e-3)


def test_whitened_has_no_more_columns_than_rows_or_columns():
    assert Inputs(make_target(shape=(2, 2, 2)), 50, 0).whitened.train.shape == (240, 8)
    few = make_target(rows=(10, 5, 5))
    assert Inputs(few, 50, 0).whitened.train.shape == (10, 9)


def test_standardised_and_whitened_ignore_scale():
    data = make_target(leak=0.5)
    # Each column by its own factor, over six orders of magnitude, on top of a constant.
    scale = 10.0 ** np.random.default_rng(3).uniform(-5, 1, data.train.shape[1:])
    small = Inputs(rescaled(data, scale), 8, 0)
    plain = Inputs(data, 8, 0)
    np.testing.assert_allclose(small.standardised.test, plain.standardised.test, atol=1e-3)
    np.testing.assert_allclose(small.whitened.test, plain.whitened.test, atol=1e-2)


def test_standardised_constant_columns_are_zero():
    data = make_target()
    for part in (data.train, data.validation, data.test):
        part[:, 0, 0, :] = 1e4 / 3
    found = Inputs(data, 8, 0)
    assert not found.standardised.train.reshape(240, 6, 6, 4)[:, 0, 0].any()
    assert np.isfinite(found.whitened.train).all()
    assert np.isfinite(found.channels("whitened").matrix).all()


def test_selected_equals_an_f_test():
    data = make_target(leak=0.3)
    inputs = Inputs(data, 8, 0)
    flat = data.train.reshape(240, -1)
    chosen = SelectKBest(k=10).fit(flat, data.train_labels).get_support()
    np.testing.assert_array_equal(inputs.selected(10).train, inputs.standardised.train[:, chosen])


def test_whitened_channels_are_uncorrelated():
    data = make_target()
    mix = np.random.default_rng(5).normal(size=(4, 4)) * [1.0, 1e-3, 10.0, 1.0]
    mixed = rescaled(data, 1.0)
    for part in ("train", "validation", "test"):
        getattr(mixed, part)[:] = getattr(mixed, part) @ mix
    offset, matrix = Inputs(mixed, 1, 0).channels("whitened")
    found = (mixed.train - offset) @ matrix
    np.testing.assert_allclose(np.cov(found.reshape(-1, 4).T), np.eye(4), atol=5e-3)


def test_channels_of_standardised_and_raw_forms():
    data = rescaled(make_target(), 5.0, 3.0)
    offset, matrix = Inputs(data, 1, 0).channels("standardised")
    rows = data.train.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(offset, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(matrix, np.diag(1 / rows.std(0)), rtol=1e-4, atol=1e-9)
    offset, matrix = Inputs(data, 1, 0).channels("raw")
    assert not offset.any() and (matrix == np.eye(4)).all()


FACES = DataConfig(image_size=32, train_rows=20, validation_rows=10, test_rows=12)


def photographs(count=60, private=None):
    """Every picture is one colour, which is its row number."""
    images = (
        np.zeros((count, 32, 32, 3), np.uint8)
        + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    labels = np.arange(count) % 4 - 1 if private is None else private
    split = np.repeat([0, 1, 2], [count // 2, count // 3, count - count // 2 - count // 3])
    return Dataset.from_arrays(images, {"gender": np.arange(count) % 2}, labels, split=split)


def numbers(part):
    return set(part.images[:, 0, 0, 0].tolist())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data_seed": 3, "synthetic_shift": "blur", "synthetic_correlation": 0.7},
        {"private_label": "expression", "tasks": "gender=gender"},
    ],
)
def test_unseen_rows_of_drawn_faces_come_from_their_own_stream(changes, tmp_path, tiny_fast):
    config = dataclasses.replace(FACES, cache_dir=str(tmp_path), **changes)
    dataset = open_dataset(config)
    rows = unseen_rows(dataset, config, dataset.rows["test"], tiny_fast, seed=0)
    drawn = synthetic_faces.render(
        config.data_seed,
        "attacker",
        np.arange(136),
        size=32,
        shift=config.synthetic_shift,
        correlation=config.synthetic_correlation,
    )
    label = getattr(drawn, config.effective_private_label)
    np.testing.assert_array_equal(rows.train.images, drawn.image[:96])
    np.testing.assert_array_equal(rows.validation.images, drawn.image[96:])
    np.testing.assert_array_equal(rows.train.labels, label[:96])
    np.testing.assert_array_equal(rows.validation.labels, label[96:])
    tested = dataset.rows["test"]
    np.testing.assert_array_equal(rows.test.images, dataset.store.images(tested))
    np.testing.assert_array_equal(rows.test.labels, dataset.all_labels.private[tested])


def test_unseen_rows_of_drawn_people_are_other_pictures(tmp_path):
    config = dataclasses.replace(
        FACES, cache_dir=str(tmp_path), private_label="identity", num_identities=3
    )
    images, labels = attacker_faces(config, 15)
    drawn = synthetic_faces.render(0, "attacker", np.arange(15), size=32, num_identities=3)
    np.testing.assert_array_equal(images, drawn.image)
    np.testing.assert_array_equal(labels, drawn.identity)
    classes = open_dataset(config).private_classes
    assert classes == ("person0", "person1", "person2")


CSV = DataConfig(dataset="csv", data_dir="x", tasks="gender=g", private_label="hair")


def test_unseen_rows_of_other_data_are_validation_rows(tiny_fast):
    dataset = photographs()
    found = unseen_rows(dataset, CSV, dataset.rows["test"], tiny_fast, seed=0)
    known = {name: set(rows.tolist()) for name, rows in dataset.rows.items()}
    unlabelled = set(range(0, 60, 4))
    assert numbers(found.train) | numbers(found.validation) == known["validation"] - unlabelled
    assert not numbers(found.train) & numbers(found.validation)
    assert numbers(found.test) == known["test"] - unlabelled
    # A quarter, rounded up, to choose by.
    assert len(found.validation.labels) == -(-len(known["validation"] - unlabelled) // 4)
    for part in found:
        assert part.labels.tolist() == [n % 4 - 1 for n in part.images[:, 0, 0, 0].tolist()]


@pytest.mark.parametrize(("asked", "learned", "chosen"), [(150, 149, 50), (100, 100, 50)])
def test_unseen_rows_for_choosing_are_bounded(tiny_fast, asked, learned, chosen):
    """Of 199 labelled validation rows of 200 a quarter is 50, but 10 were asked for."""
    private = np.where(np.arange(240) == 20, -1, np.arange(240) % 3)
    dataset = photographs(240, private)
    rows = {"train": np.arange(20), "validation": np.arange(20, 220), "test": np.arange(220, 240)}
    dataset = dataclasses.replace(dataset, rows=rows)
    setting = dataclasses.replace(tiny_fast, rows=asked, validation_rows=10_000)
    found = unseen_rows(dataset, CSV, rows["test"], setting, seed=0)
    assert (len(found.train.labels), len(found.validation.labels)) == (learned, chosen)
    setting = dataclasses.replace(setting, rows=1000, validation_rows=10)
    found = unseen_rows(dataset, CSV, rows["test"], setting, seed=0)
    assert (len(found.train.labels), len(found.validation.labels)) == (189, 10)


def test_unseen_rows_of_foreign_data_include_training_rows(tiny_fast):
    dataset = photographs()
    found = unseen_rows(dataset, CSV, dataset.rows["test"], tiny_fast, seed=0, is_own=False)
    known = {*dataset.rows["train"].tolist(), *dataset.rows["validation"].tolist()}
    assert numbers(found.train) | numbers(found.validation) == known - set(range(0, 60, 4))
    assert not (numbers(found.train) | numbers(found.validation)) & numbers(found.test)


def test_own_rows_are_training_and_validation_rows(tiny_fast):
    dataset = photographs()
    setting = dataclasses.replace(tiny_fast, rows=10, validation_rows=7)
    found = own_rows(dataset, dataset.rows["test"], setting, seed=0)
    assert (len(found.train.labels), len(found.validation.labels)) == (10, 7)
    assert numbers(found.train) < set(dataset.rows["train"].tolist())
    assert numbers(found.validation) <= set(dataset.rows["validation"].tolist())
    assert numbers(found.test) <= set(dataset.rows["test"].tolist())
    whole = own_rows(dataset, dataset.rows["test"], tiny_fast, seed=0)
    assert numbers(whole.train) == set(dataset.rows["train"].tolist()) - set(range(0, 60, 4))
    for part in found:
        assert part.labels.tolist() == [n % 4 - 1 for n in part.images[:, 0, 0, 0].tolist()]


def test_own_rows_of_sorted_data_are_in_random_order(tiny_fast):
    """Attackers of images and learning curves take the first rows: here classes are sorted."""
    private = np.repeat([0, 1, 2, 3], 60)
    dataset = photographs(240, private)
    rows = {"train": np.arange(0, 240, 2), "validation": np.arange(1, 240, 4)}
    dataset = dataclasses.replace(dataset, rows={**rows, "test": np.arange(3, 240, 4)})
    for found in (
        own_rows(dataset, dataset.rows["test"], tiny_fast, seed=0),
        unseen_rows(dataset, CSV, dataset.rows["test"], tiny_fast, seed=0),
    ):
        assert set(found.train.labels[: len(found.train.labels) // 2].tolist()) == {0, 1, 2, 3}


def test_rows_without_labels_give_a_reason(tiny_fast):
    data = DataConfig(dataset="csv", data_dir="x", tasks="gender=g", private_label="identity")
    dataset = photographs()
    found = unseen_rows(dataset, data, dataset.rows["test"], tiny_fast, seed=0)
    assert found == "a person is learned from that person's training images"
    private = np.where(np.arange(60) < 30, 1, -1)
    dataset = photographs(private=private)
    found = own_rows(dataset, dataset.rows["test"], tiny_fast, seed=0)
    assert found == "there are no validation rows with a private label"
    data = dataclasses.replace(data, private_label="hair")
    found = unseen_rows(dataset, data, dataset.rows["test"], tiny_fast, seed=0)
    assert found == "there are too few validation rows with a private label"
