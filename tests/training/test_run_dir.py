"""Whose a run folder is, and what a refused request leaves in it."""

import dataclasses

import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.errors import RunError, UsageError
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
