"""Whose a run folder is, and what a refused request leaves in it."""

import dataclasses

import pytest

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.training.fit import _fingerprint
from tf_mtl_privacy.training.run_dir import RunLabels, claim, read_labels, write_labels

LABELS = RunLabels({"gender": ("f", "m")}, ("a", "b", "c"), "print", "synthetic_faces")
KEPT = {"config.json", "labels.json"}


def held(run_dir):
    return {path.name for path in run_dir.iterdir()} & KEPT


def stop(run_dir, error, checkpoint="", config=None):
    """A request that ends with this error once it has written its labels."""
    with pytest.raises(type(error)), claim(run_dir, config or tiny_config()) as folder:
        write_labels(folder, LABELS)
        if checkpoint:
            (folder / checkpoint).parent.mkdir(parents=True)
            (folder / checkpoint).touch()
        raise error


def test_a_refused_request_leaves_the_folder_to_the_corrected_one(tmp_path):
    stop(tmp_path, UsageError("--delta"))
    assert not held(tmp_path)
    corrected = tiny_config("mtl_dp")
    with claim(tmp_path, corrected) as folder:
        write_labels(folder, dataclasses.replace(LABELS, data_fingerprint="another"))
    assert held(tmp_path) == KEPT
    with pytest.raises(UsageError), claim(tmp_path, tiny_config()):
        pass
    assert held(tmp_path) == KEPT, "those of the run that began there"


@pytest.mark.parametrize("checkpoint", ["checkpoints/index", "tasks/gender/checkpoints/index"])
def test_a_run_with_a_checkpoint_keeps_what_it_is(tmp_path, checkpoint):
    stop(tmp_path, UsageError("--late"), checkpoint)
    assert held(tmp_path) == KEPT


def test_a_failure_that_is_not_the_request_s_fault_keeps_what_it_is(tmp_path):
    stop(tmp_path, RunError("disk full"))
    assert held(tmp_path) == KEPT
    # The next process finds the run there; it did not make it.
    stop(tmp_path, UsageError("--data_dir"))
    assert held(tmp_path) == KEPT


def test_labels_say_where_the_rows_are_from(tmp_path):
    write_labels(tmp_path, LABELS)
    assert read_labels(tmp_path) == LABELS


def begun(folder, dataset, **data):
    """The labels of a run that begins, or goes on, on this data."""
    config = tiny_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    found = dataclasses.replace(LABELS, data_fingerprint=_fingerprint(folder, config, dataset))
    write_labels(folder, found)
    return read_labels(folder).data_fingerprint


def test_a_run_goes_on_with_the_same_data_alone(tmp_path):
    run, here, there = (tmp_path / name for name in ("run", "here", "there"))
    run.mkdir()
    dataset = tiny_arrays(20, cache_dir=str(here))
    recorded = begun(run, dataset)
    assert recorded == dataset.fingerprint and dataset.digest not in recorded
    assert begun(run, dataset) == recorded
    # From another cache folder it takes the secret of the first.
    moved = tiny_arrays(20, cache_dir=str(there))
    with pytest.raises(RunError, match=r"cannot tell if the data has changed.*fingerprint.key"):
        begun(run, moved, cache_dir=str(there))
    assert begun(run, moved, cache_dir=str(here)) == recorded
    with pytest.raises(RunError, match="the data has changed since the run began"):
        begun(run, tiny_arrays(21, cache_dir=str(here)))


def test_a_run_that_recorded_the_plain_digest_goes_on(tmp_path):
    dataset = tiny_arrays(20, cache_dir=str(tmp_path / "cache"))
    write_labels(tmp_path, dataclasses.replace(LABELS, data_fingerprint=dataset.digest))
    assert begun(tmp_path, dataset) == dataset.digest
    with pytest.raises(RunError, match="the data has changed since the run began"):
        begun(tmp_path, tiny_arrays(21, cache_dir=str(tmp_path / "cache")))


def test_a_run_that_does_not_know_its_data_is_taken_at_its_word(tmp_path):
    write_labels(tmp_path, dataclasses.replace(LABELS, data_fingerprint=""))
    assert begun(tmp_path, tiny_arrays(21, cache_dir=str(tmp_path / "cache"))) == ""


def test_a_run_whose_rows_were_chosen_otherwise_names_the_flag_to_go_on(tmp_path):
    def config(version):
        data = DataConfig(dataset="csv", data_dir="x", tasks="mood=mood", split_version=version)
        model = dataclasses.replace(tiny_config("stl").train, model="stl")
        return dataclasses.replace(tiny_config("stl"), data=data, train=model)

    stop(tmp_path, RunError("interrupted"), "checkpoints/index", config(1))
    words = "--split_version=1; add that flag to go on with it"
    with pytest.raises(UsageError, match=words), claim(tmp_path, config(2)):
        pass
    with claim(tmp_path, config(1)):
        pass
