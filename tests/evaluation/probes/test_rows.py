"""Which rows attackers get: never one that they are tested on."""

import dataclasses

import numpy as np
import pytest

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.evaluation.probes.data import own_rows, unseen_rows

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
def test_synthetic_attackers_have_faces_of_their_own_stream(changes, tmp_path, tiny_fast):
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


def test_synthetic_people_are_met_again_in_other_pictures(tmp_path):
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


def test_other_data_s_attackers_share_its_validation_rows(tiny_fast):
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
def test_no_more_rows_than_asked_for_are_kept_back_to_choose_by(tiny_fast, asked, learned, chosen):
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


def test_other_data_than_the_run_s_gives_its_training_rows_too(tiny_fast):
    dataset = photographs()
    found = unseen_rows(dataset, CSV, dataset.rows["test"], tiny_fast, seed=0, is_own=False)
    known = {*dataset.rows["train"].tolist(), *dataset.rows["validation"].tolist()}
    assert numbers(found.train) | numbers(found.validation) == known - set(range(0, 60, 4))
    assert not (numbers(found.train) | numbers(found.validation)) & numbers(found.test)


def test_own_rows_are_the_encoder_s_training_rows(tiny_fast):
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


def test_the_first_rows_are_a_sample_though_the_data_is_sorted(tiny_fast):
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


def test_reasons_why_there_are_no_rows(tiny_fast):
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
