"""A run's folder: its lock, its configuration and its labels."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import CONFIG_FILE, LABELS_FILE, METRICS_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import private_dir, read_json, write_json
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, read_ledger

STATUS_FILE = "training.json"
_LOCK = ".lock"
# Files that training writes before its first checkpoint.
_OWN = (
    *(CONFIG_FILE, LABELS_FILE, METRICS_FILE, _LOCK),
    *("checkpoints", "features", "tasks", "tensorboard"),
)


@contextmanager
def claim(run_dir: str | os.PathLike[str], config: Config) -> Iterator[Path]:
    """Makes or reopens a run folder for `config` and keeps other processes out of it.

    A start that ends before anything was trained leaves nothing behind: its files are removed on
    exit unless `has_started`; earlier files are kept. A start that was killed leaves its
    `config.json`. Another configuration replaces that file if nothing was trained and it was
    not edited.

    Raises:
        UsageError: the folder holds a run of another configuration, or is a file.
        RunError: another process trains in it, or it cannot be written to.
    """
    folder = Path(run_dir)
    missing = _missing(folder)
    try:
        try:
            private_dir(folder, tighten=(CONFIG_FILE,))
        except RunError as error:
            raise RunError(f"--run_dir={folder}: {error}; give another folder") from error
        with _locked(folder) as lock:
            _clear_killed_start(folder, lock)
            there = {entry.name for entry in folder.iterdir()} - {_LOCK}
            try:
                _write_config(folder, config, lock, there)
                yield folder
            finally:
                if not has_started(folder):
                    for name in _OWN:
                        if name not in there:
                            _remove(folder / name)
    finally:
        for path in missing:
            # Only an empty folder: there may be a run in it, or other files.
            with contextlib.suppress(OSError):
                path.rmdir()


def has_finished(folder: Path) -> bool:
    """Returns True if the training of a run folder is complete."""
    return (folder / STATUS_FILE).exists()


def has_checkpoint(folder: Path) -> bool:
    """Returns True if a run folder holds a checkpoint, from which training continues."""
    return any(list(place.glob("ckpt-*.index")) for place in _checkpoints(folder))


def has_started(folder: Path) -> bool:
    """Returns True if a run folder holds anything that was trained.

    That is a finished run, a checkpoint, or a ledger that counts private updates or cannot be read
    (so that it is unknown how much of the budget is used).
    """
    if has_finished(folder):
        return True
    for place in _checkpoints(folder):
        names = {entry.name for entry in place.iterdir()} if place.is_dir() else set()
        if names - {LEDGER_FILE} or (names and _spent(place)):
            return True
    return False


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoint folders of a run, including those of single tasks."""
    return [folder / "checkpoints", *folder.glob("tasks/*/checkpoints")]


def _missing(folder: Path) -> list[Path]:
    """Returns the folders that have to be made, the innermost first."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--run_dir={folder}: is a file; give a folder")
        return [path for path in (folder, *folder.parents) if not path.exists()]
    except OSError as error:
        raise RunError(f"cannot write to folder {folder}: {error.strerror or error}") from error


def _spent(checkpoints: Path) -> bool:
    try:
        state = read_ledger(checkpoints)
        return any(state.spent(name) for name in state.header.phases)
    except (RunError, UsageError):
        return True


@contextmanager
def _locked(folder: Path) -> Iterator[Any]:
    """Opens and locks the lock file, for reading and writing."""
    in_use = f"run folder {folder} is in use by another process"
    path = folder / _LOCK
    with open(path, "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(in_use) from error
        # A start that fails removes the file; another process that had it open then locks nothing.
        if not path.exists() or os.fstat(lock.fileno()).st_ino != path.stat().st_ino:
            raise RunError(in_use)
        yield lock


def _write_config(folder: Path, config: Config, lock: Any, there: set[str]) -> None:
    path = folder / CONFIG_FILE
    if path.exists():
        _check_same(folder, config)
    elif has_started(folder):
        raise UsageError(f"--run_dir={folder}: has checkpoints but no {CONFIG_FILE}")
    else:
        # Written before the configuration, so that a later start recognises the file as its own.
        note = {"config": _digest(config.to_dict()), "there": sorted(there)}
        lock.truncate(0)
        lock.write(json.dumps(note))
        lock.flush()
        write_json(path, config.to_dict())


def _clear_killed_start(folder: Path, lock: Any) -> None:
    """Removes the configuration of a start that was killed before anything was trained."""
    try:
        lock.seek(0)
        note = json.loads(lock.read())
        digest, there = note["config"], set(note["there"])
        ours = digest == _digest(read_json(folder / CONFIG_FILE))
    except (RunError, ValueError, KeyError, TypeError):
        return
    if ours and not has_started(folder):
        for name in {CONFIG_FILE, LABELS_FILE, METRICS_FILE} - there:
            _remove(folder / name)
        for place in _checkpoints(folder):
            if not there & {"checkpoints", "tasks"}:
                _remove(place / LEDGER_FILE)


def _digest(sections: Any) -> str:
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_same(folder: Path, config: Config) -> None:
    try:
        earlier = Config.from_dict(read_json(folder / CONFIG_FILE)).to_dict()
    except UsageError as error:
        raise UsageError(f"--run_dir={folder}: {CONFIG_FILE}: {error}") from error
    for section, options in config.to_dict().items():
        for name, value in options.items():
            before = earlier[section][name]
            # The folder of the stores does not change what a run computes.
            if before != value and name == "split_version":
                raise UsageError(
                    f"--run_dir={folder}: holds a run with --split_version="
                    f"{before}; add that flag to resume it, or give another --run_dir"
                )
            if before != value and name != "cache_dir":
                raise UsageError(
                    f"--run_dir={folder}: holds a run with --{name}={before}, not {value}; give "
                    "another --run_dir, or the same options to resume it"
                )


@dataclasses.dataclass(frozen=True)
class RunLabels:
    """Names of a run's classes, and the data that it was trained on.

    Attributes:
        task_classes: task name -> class names.
        private_classes: names of the private label's classes; empty where there is none.
        data_fingerprint: `Dataset.fingerprint` of the data it was trained on.
        source: the data set that its configuration names, or empty if rows were passed in.
    """

    task_classes: dict[str, tuple[str, ...]]
    private_classes: tuple[str, ...]
    data_fingerprint: str
    source: str = ""


def write_labels(folder: Path, labels: RunLabels) -> None:
    """Saves class names and data, or compares them with those from the start of the run.

    Raises:
        RunError: the data has changed since, so that rows may have moved between splits.
    """
    path = folder / LABELS_FILE
    if path.exists():
        if read_labels(folder) != labels:
            raise RunError(
                f"run folder {folder}: the data has changed since the run began; start again "
                "in another --run_dir"
            )
        return
    tasks = [[name, list(names)] for name, names in labels.task_classes.items()]
    write_json(
        path,
        {
            "tasks": tasks,
            "private": list(labels.private_classes),
            "data_fingerprint": labels.data_fingerprint,
            "source": labels.source,
        },
    )


def read_labels(folder: Path) -> RunLabels:
    """Reads what `write_labels` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    content: Any = read_json(folder / LABELS_FILE)
    try:
        return RunLabels(
            {name: tuple(names) for name, names in content["tasks"]},
            tuple(content["private"]),
            content["data_fingerprint"],
            content.get("source", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / LABELS_FILE} is damaged: {error!r}") from error
