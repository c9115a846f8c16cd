"""Versions appear completely or not at all, and are never overwritten."""

import multiprocessing
import os
import shutil
import signal
import time

import pytest

from tests.serving.exports import is_complete
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.export.version_folder import publish, versions


def write(folder, number):
    (folder / "variables").mkdir()
    for name in ("saved_model.pb", "variables/data"):
        (folder / name).write_text(f"{name} of {number}")


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def permissions_of_others(path):
    """Returns the permissions of everyone but the owner."""
    return path.stat().st_mode & 0o077


def test_export_run_polling_server_sees_complete_versions_only(watched):
    assert len(watched.seen) > 50, "it polled while the export ran"
    assert watched.seen[0] == {} and watched.seen[-1] == {"1": True}
    assert {"1": False} not in watched.seen


def test_is_complete_detects_changed_files(exported, tmp_path):
    assert not is_complete(tmp_path)
    copy = shutil.copytree(exported.folder, tmp_path / "copy")
    assert is_complete(copy)
    (copy / "fingerprint.pb").write_bytes(b"other")
    assert not is_complete(copy)


def test_publish_default_version_follows_the_highest(tmp_path):
    folder = tmp_path / "model"
    assert versions(folder) == []
    assert publish(folder, 0, write) == folder / "1"
    assert publish(folder, 10, write) == folder / "10"
    assert publish(folder, 9, write) == folder / "9"
    assert publish(folder, 0, write) == folder / "11"
    assert versions(folder) == [1, 9, 10, 11] and len(visible(folder)) == 4
    assert (folder / "11" / "variables" / "data").read_text() == "variables/data of 11"
    assert not [
        path
        for path in (folder, *folder.iterdir())
        if path.is_dir() and permissions_of_others(path)
    ]


def test_publish_existing_version_is_refused(tmp_path):
    publish(tmp_path, 3, write)
    with pytest.raises(UsageError, match=r"--version=3: .*never overwritten"):
        publish(tmp_path, 3, lambda folder, number: (folder / "saved_model.pb").write_text("x"))
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "saved_model.pb of 3"
    (tmp_path / "4").mkdir()
    with pytest.raises(UsageError, match="--version=4"):
        publish(tmp_path, 4, write)


def test_publish_failure_leaves_nothing(tmp_path):
    def fail(folder, number):
        write(folder, number)
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"cannot write .*1: No space left"):
        publish(tmp_path, 0, fail)
    assert visible(tmp_path) == [] and not list(tmp_path.glob(".export-*"))


def test_publish_concurrent_export_is_refused(tmp_path):
    def another(folder, number):
        with pytest.raises(RunError, match="another process is exporting to"):
            publish(tmp_path, 0, write)
        write(folder, number)

    publish(tmp_path, 0, another)
    assert versions(tmp_path) == [1]


def slow(folder, number):
    for part in range(200):
        (folder / f"part{part}").write_bytes(os.urandom(1000))
        time.sleep(0.001)


@pytest.mark.parametrize("seconds", [0.02, 0.06, 0.12])
def test_publish_killed_export_leaves_no_version_and_is_cleaned_up(tmp_path, seconds):
    process = multiprocessing.get_context("fork").Process(
        target=publish, args=(tmp_path, 0, slow), daemon=True
    )
    process.start()
    while not list(tmp_path.glob(".export-*")):
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert visible(tmp_path) == [] and list(tmp_path.glob(".export-*/part0"))
    publish(tmp_path, 0, write)
    assert visible(tmp_path) == ["1"] and not list(tmp_path.glob(".export-*"))


def test_publish_syncs_all_files_before_the_rename(tmp_path, monkeypatch):
    order = []
    names = {}

    def fsync(handle):
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        names[order[-1]] = visible(tmp_path)

    monkeypatch.setattr(os, "fsync", fsync)
    publish(tmp_path, 0, write)
    synced = [path.rpartition(".export-")[2].partition("/")[2] for path in order[:-1]]
    assert sorted(synced) == ["", "saved_model.pb", "variables", "variables/data"]
    assert synced[-1] == "" and order[-1] == str(tmp_path)
    assert [names[path] for path in order] == [[]] * 4 + [["1"]]
