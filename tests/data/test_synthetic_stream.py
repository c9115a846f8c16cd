"""Faces that are set aside for a public backbone."""

import dataclasses

import numpy as np
import pytest

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.data.opening import open_source
from tf_mtl_privacy.errors import UsageError

ROWS = {"train_rows": 40, "validation_rows": 12, "test_rows": 12}


def config(tmp_path, stream, **options):
    data = DataConfig(image_size=32, cache_dir=str(tmp_path), synthetic_stream=stream, **ROWS)
    return dataclasses.replace(data, **options)


def fingerprint(data):
    return open_source(data).fingerprint()


@pytest.mark.parametrize("shift", ["none", "all"])
def test_a_backbones_faces_are_in_no_other_set(tmp_path, shift):
    used, aside = (
        open_dataset(config(tmp_path, stream, synthetic_shift=shift))
        for stream in ("train", "backbone")
    )
    seen = [used.store.images(np.concatenate(list(used.rows.values())))]
    theirs = aside.store.images(aside.rows["train"])
    assert len(theirs) == 40
    assert not {image.tobytes() for image in theirs} & {image.tobytes() for image in seen[0]}
    # Not one of the 12 attributes' 40 values is copied either: the labels are drawn anew.
    for task, values in used.labels("train").business.items():
        assert not np.array_equal(values, aside.labels("train").business[task]), task


def test_validation_and_test_are_those_of_every_run(tmp_path):
    used, aside = (open_dataset(config(tmp_path, stream)) for stream in ("train", "backbone"))
    for split in ("validation", "test"):
        np.testing.assert_array_equal(
            used.store.images(used.rows[split]), aside.store.images(aside.rows[split])
        )
        ours, theirs = used.labels(split), aside.labels(split)
        np.testing.assert_array_equal(ours.private, theirs.private)
        for task in ours.business:
            np.testing.assert_array_equal(ours.business[task], theirs.business[task])
    assert list(used.keys[used.rows["test"]]) == list(aside.keys[aside.rows["test"]])
    assert not set(used.keys[used.rows["train"]]) & set(aside.keys[aside.rows["train"]])


def test_it_is_another_store_and_other_data(tmp_path):
    train, aside = config(tmp_path, "train"), config(tmp_path, "backbone")
    assert fingerprint(train) != fingerprint(aside)
    assert fingerprint(aside) != fingerprint(dataclasses.replace(aside, data_seed=1))
    assert open_dataset(train).fingerprint != open_dataset(aside).fingerprint
    # Which part of a sheet of faces is asked for changes nothing in the faces.
    again = open_dataset(config(tmp_path / "again", "backbone"))
    assert again.fingerprint == open_dataset(aside).fingerprint


def test_an_unknown_stream_is_refused():
    with pytest.raises(UsageError, match="--synthetic_stream=test: expected one of train, backbon"):
        DataConfig(synthetic_stream="test")
