"""Rows that a run was trained on are not tested on: real folders, no networks."""

import dataclasses
import os

import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.train_test_overlap import (
    own_dataset,
    refuse_trained_rows,
    seen_people,
)


def table(count=60):
    return [
        {
            "file": f"{k}.png",
            "mood": str(k % 2),
            "hat": str(k // 2 % 2),
            "identity": f"p{k % 6}",
            "split": ("train", "train", "validation", "test")[k % 4],
        }
        for k in range(count)
    ]


@pytest.fixture
def data(tmp_path):
    write_csv(tmp_path / "faces", table())
    return DataConfig(
        dataset="csv",
        data_dir=str(tmp_path / "faces"),
        cache_dir=str(tmp_path / "cache"),
        image_size=32,
        tasks="mood=mood",
        private_label="hat",
    )


def check(own, trained_on, used, split="test"):
    dataset = open_dataset(used)
    found = own_dataset(own, trained_on, used, dataset)
    if found is not None:
        refuse_trained_rows(found, dataset, split)
    return found, dataset


def test_own_dataset_with_the_run_s_own_data_is_accepted(data):
    trained_on = open_dataset(data).fingerprint
    found, dataset = check(data, trained_on, data)
    assert found is dataset


def test_own_dataset_with_changed_data_is_refused(data, tmp_path):
    trained_on = open_dataset(data).fingerprint
    write_csv(tmp_path / "faces", table(61))
    with pytest.raises(RunError, match=f"--dataset=csv .*then {trained_on[:8]}.*train again"):
        check(data, trained_on, data)
    # Other labels of the same changed data are no way around it.
    with pytest.raises(RunError, match="not the data that the run was trained on"):
        check(data, trained_on, dataclasses.replace(data, private_label="none"))
    # A run that does not know what it was trained on is not held up.
    assert check(data, "", data)[0] is not None


def test_own_dataset_with_the_plain_digest_of_an_older_run_is_known(data, tmp_path):
    trained_on = open_dataset(data).digest
    assert check(data, trained_on, data)[0] is not None
    other = dataclasses.replace(data, private_label="none")
    assert check(data, trained_on, other)[0] is not None
    write_csv(tmp_path / "faces", table(61))
    with pytest.raises(RunError, match=f"--dataset=csv .*then {trained_on[:8]}.*train again"):
        check(data, trained_on, data)


def test_own_dataset_of_another_machine_needs_its_fingerprint_secret(data, tmp_path):
    there = dataclasses.replace(data, cache_dir=str(tmp_path / "there"))
    trained_on = open_dataset(there).fingerprint
    # The run's configuration names a folder that is not on this machine.
    own = dataclasses.replace(data, cache_dir=str(tmp_path / "not here"))
    for used in (data, dataclasses.replace(data, private_label="identity", num_identities=6)):
        with pytest.raises(RunError, match="cannot tell if this is the data") as caught:
            check(own, trained_on, used)
        line = str(caught.value)
        wanted = tmp_path / "cache" / f"fingerprint-{trained_on[65:]}.key"
        assert f"copy fingerprint.key from the cache folder there to {wanted}" in line
        assert "\n" not in line
    # With the earlier folder at hand, or the key copied, it goes on.
    assert check(there, trained_on, data)[0] is not None
    wanted.write_bytes((tmp_path / "there" / "fingerprint.key").read_bytes())
    assert check(own, trained_on, data)[0] is not None
    write_csv(tmp_path / "faces", table(61))
    with pytest.raises(RunError, match="not the data that the run was trained on"):
        check(own, trained_on, data)


def test_refuse_trained_rows_with_another_private_label_names_their_number(data):
    own = open_dataset(data)
    identity = dataclasses.replace(data, private_label="identity", num_identities=6)
    other = open_dataset(identity)
    count = len(np.intersect1d(own.rows["train"], other.rows["test"]))
    assert count, "the split by person takes some of the training rows for testing"
    words = f"--split=test: the run was trained on {count} of these {len(other.rows['test'])} rows"
    with pytest.raises(UsageError, match=words):
        check(data, own.fingerprint, identity)
    check(data, own.fingerprint, identity, "train")
    # The split stays as it is without identities.
    check(data, own.fingerprint, dataclasses.replace(data, private_label="none"))


def test_refuse_trained_rows_with_another_split_seed_names_their_number(data, tmp_path):
    write_csv(
        tmp_path / "faces",
        [{"file": f"{k}.png", "mood": str(k % 2), "hat": "1"} for k in range(60)],
    )
    trained_on = open_dataset(data).fingerprint
    with pytest.raises(UsageError, match=r"the run was trained on .* of these"):
        check(data, trained_on, dataclasses.replace(data, data_seed=3))
    moved = tmp_path / "moved"
    os.rename(tmp_path / "faces", moved)
    with pytest.raises(UsageError, match="the run was trained on"):
        check(data, trained_on, dataclasses.replace(data, data_seed=3, data_dir=str(moved)))
    assert check(data, trained_on, dataclasses.replace(data, data_dir=str(moved)))[0] is not None


def test_own_dataset_in_another_folder_is_other_data(data, tmp_path):
    trained_on = open_dataset(data).fingerprint
    write_csv(tmp_path / "others", table(40))
    found, _ = check(data, trained_on, dataclasses.replace(data, data_dir=str(tmp_path / "others")))
    assert found is None


def test_seen_people_counts_people_with_training_rows(data):
    dataset = open_dataset(data)
    # Test rows are 3, 7, 11, ...: people 1, 3 and 5; train has 0, 1 (mod 4): everybody.
    everybody = seen_people(dataset, dataset, dataset.rows["test"])
    assert everybody.people == 3 and not everybody.unseen.any()
    rows = dataset.rows | {"train": np.flatnonzero(dataset.person == 1)}
    one = seen_people(dataclasses.replace(dataset, rows=rows), dataset, dataset.rows["test"])
    assert one.people == 1
    np.testing.assert_array_equal(one.unseen, dataset.person[dataset.rows["test"]] != 1)
    assert "other data" in seen_people(None, dataset, dataset.rows["test"]).reason
    nobody = dataclasses.replace(dataset, person=None)
    assert seen_people(nobody, nobody, dataset.rows["test"]).people is None
