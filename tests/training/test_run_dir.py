"""A run folder: its lock, its labels, and its content after a failed start."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy.accounting.events import SampledGaussian
from tf_mtl_privacy.privacy.ledger import Ledger, LedgerHeader
from tf_mtl_privacy.training.fit import _fingerprint
from tf_mtl_privacy.training.run_dir import (
    RunLabels,
    claim,
    has_started,
    read_labels,
    write_labels,
)

LABELS = RunLabels({"gender": ("f", "m")}, ("a", "b", "c"), "print", "synthetic_faces")
KEPT = {"config.json", "labels.json"}
ERRORS = [UsageError("--delta"), RunError("no weights"), OSError("disk"), KeyboardInterrupt()]


def held(run_dir):
    return {path.name for path in run_dir.iterdir()}


def stop(run_dir, error, *files, config=None):
    """Starts a run that ends with this error after it has written its labels and these files."""
    with pytest.raises(type(error)), claim(run_dir, config or tiny_config()) as folder:
        write_labels(folder, LABELS)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        raise error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_claim_failed_start_leaves_nothing(tmp_path, error):
    folder = tmp_path / "runs" / "deep" / "run"
    stop(folder, error, "metrics.jsonl", "tensorboard/events", "features/a.npy", "tasks/age/x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_claim_failed_start_keeps_earlier_files(tmp_path, error):
    for name in ("notes.txt", "tensorboard/mine", "checkpoints/.keep", "models/mine.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    tmp_path.chmod(0o700)
    (tmp_path / "checkpoints" / ".keep").unlink()
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    stop(tmp_path, error, "tensorboard/events")
    after = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    # In the user's own folder nothing is removed, not even new files.
    assert after == before | {tmp_path / "tensorboard" / "events": ""}


def test_claim_corrected_command_is_accepted(tmp_path):
    stop(tmp_path, RunError("no weights"))
    corrected = tiny_config("mtl_dp")
    with claim(tmp_path, corrected) as folder:
        write_labels(folder, dataclasses.replace(LABELS, data_fingerprint="another"))
        (folder / "training.json").touch()
    assert held(tmp_path) > KEPT
    with pytest.raises(UsageError, match="--model=mtl_dp, not mtl_adv_dp"):
        stop(tmp_path, RunError("no weights"), config=tiny_config("mtl_adv_dp"))
    assert held(tmp_path) > KEPT, "those of the run that finished there"


@pytest.mark.parametrize("checkpoint", ["checkpoints/index", "tasks/gender/checkpoints/index"])
def test_claim_run_with_a_checkpoint_is_kept(tmp_path, checkpoint):
    stop(tmp_path, UsageError("--late"), checkpoint)
    assert held(tmp_path) > KEPT and has_started(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training import test_run_dir as t
with t.claim(sys.argv[1], t.tiny_config()) as folder:
    t.write_labels(folder, t.LABELS)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill(run_dir):
    """Starts a run that is killed after it has written its labels."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(run_dir)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert held(run_dir) > KEPT


def test_claim_after_a_killed_start_accepts_another_command(tmp_path, repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)
    run_dir = tmp_path / "run"
    kill(run_dir)
    corrected = tiny_config("mtl_dp")
    with claim(run_dir, corrected) as folder:
        # The data may have been corrected as well.
        write_labels(folder, dataclasses.replace(LABELS, data_fingerprint="another"))
        (folder / "training.json").touch()
    saved = json.loads((run_dir / "config.json").read_text())
    assert saved["train"]["model"] == "mtl_dp"
    kill_again = tmp_path / "second"
    kill(kill_again)
    # The user has changed it: it stays.
    config = json.loads((kill_again / "config.json").read_text())
    config["train"]["seed"] = 77
    (kill_again / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="--seed=77"):
        stop(kill_again, RunError(""))
    assert json.loads((kill_again / "config.json").read_text())["train"]["seed"] == 77


def test_claim_configuration_written_by_hand_is_not_replaced(tmp_path):
    tmp_path.chmod(0o700)
    text = json.dumps(tiny_config("mtl_dp").to_dict())
    (tmp_path / "config.json").write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError, match="holds a run with --model=mtl_dp"):
            stop(tmp_path, RunError(""), config=tiny_config("stl"))
        stop(tmp_path, RunError("no weights"), config=tiny_config("mtl_dp"))
        assert held(tmp_path) == {"config.json"}
        assert (tmp_path / "config.json").read_text() == text


@pytest.mark.parametrize(("updates", "kept"), [(0, False), (3, True)])
def test_claim_ledger_that_counts_updates_is_kept(tmp_path, updates, kept):
    header = LedgerHeader({"discriminator": SampledGaussian(1.0, 0.1)}, 1.0, 0)
    with pytest.raises(RunError), claim(tmp_path / "run", tiny_config()) as folder:
        (folder / "checkpoints").mkdir()
        with Ledger(folder / "checkpoints", header) as ledger:
            if updates:
                ledger.reserve("discriminator", updates)
        raise RunError("loss is NaN")
    assert (tmp_path / "run" / "checkpoints" / "ledger.jsonl").exists() == kept


def test_claim_ledger_that_cannot_be_read_is_kept(tmp_path):
    with pytest.raises(RunError), claim(tmp_path, tiny_config()) as folder:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "ledger.jsonl").write_text("damaged\n")
        raise RunError("")
    assert (tmp_path / "checkpoints" / "ledger.jsonl").exists()


def test_claim_folder_in_use_is_refused_and_unchanged(tmp_path):
    with claim(tmp_path, tiny_config()) as folder:
        with (
            pytest.raises(RunError, match="in use by another process"),
            claim(tmp_path, tiny_config()),
        ):
            pass
        assert held(folder) == {".lock", "config.json"}
        (folder / "training.json").touch()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_claim_file_instead_of_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises((UsageError, RunError), match=f"--run_dir={tmp_path / place}.*give a"),
        claim(tmp_path / place, tiny_config()),
    ):
        pass
    assert held(tmp_path) == {"file"} and (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_claim_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot write"), claim(tmp_path / "run", tiny_config()):
        pass


def test_labels_file_records_source_of_rows(tmp_path):
    write_labels(tmp_path, LABELS)
    assert read_labels(tmp_path) == LABELS


def begun(folder, dataset, **data):
    """Returns the labels of a run that begins or resumes on this data."""
    config = tiny_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    expected_labels = dataclasses.replace(
        LABELS, data_fingerprint=_fingerprint(folder, config, dataset)
    )
    write_labels(folder, expected_labels)
    return read_labels(folder).data_fingerprint


def test_run_resumes_only_with_same_data(tmp_path):
    run, here, there = (tmp_path / name for name in ("run", "here", "there"))
    run.mkdir()
    dataset = tiny_arrays(20, cache_dir=str(here))
    recorded = begun(run, dataset)
    assert recorded == dataset.fingerprint and dataset.digest not in recorded
    assert begun(run, dataset) == recorded
    # With another cache folder, the secret of the first one is needed.
    moved = tiny_arrays(20, cache_dir=str(there))
    with pytest.raises(RunError, match=r"cannot tell if the data has changed.*fingerprint.key"):
        begun(run, moved, cache_dir=str(there))
    assert begun(run, moved, cache_dir=str(here)) == recorded
    with pytest.raises(RunError, match="the data has changed since the run began"):
        begun(run, tiny_arrays(21, cache_dir=str(here)))


def test_run_with_plain_digest_resumes(tmp_path):
    dataset = tiny_arrays(20, cache_dir=str(tmp_path / "cache"))
    write_labels(tmp_path, dataclasses.replace(LABELS, data_fingerprint=dataset.digest))
    assert begun(tmp_path, dataset) == dataset.digest
    with pytest.raises(RunError, match="the data has changed since the run began"):
        begun(tmp_path, tiny_arrays(21, cache_dir=str(tmp_path / "cache")))


def test_run_without_recorded_data_resumes(tmp_path):
    write_labels(tmp_path, dataclasses.replace(LABELS, data_fingerprint=""))
    assert begun(tmp_path, tiny_arrays(21, cache_dir=str(tmp_path / "cache"))) == ""


def test_run_with_other_split_version_is_refused_with_flag(tmp_path):
    def config(version):
        data = DataConfig(dataset="csv", data_dir="x", tasks="mood=mood", split_version=version)
        model = dataclasses.replace(tiny_config("stl").train, model="stl")
        return dataclasses.replace(tiny_config("stl"), data=data, train=model)

    stop(tmp_path, RunError("interrupted"), "checkpoints/index", config=config(1))
    words = "--split_version=1; add that flag to resume it"
    with pytest.raises(UsageError, match=words), claim(tmp_path, config(2)):
        pass
    with claim(tmp_path, config(1)):
        pass
