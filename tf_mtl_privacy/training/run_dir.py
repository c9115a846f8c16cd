"""A run's folder: who may use it, what it says about itself."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import CONFIG_FILE, LABELS_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import private_dir, read_json, write_json

STATUS_FILE = "training.json"


@contextmanager
def claim(run_dir: str | os.PathLike[str], config: Config) -> Iterator[Path]:
    """Makes or reopens a run folder for `config` and keeps other processes out of it.

    Raises:
        UsageError: the folder holds a run of another configuration.
        RunError: another process trains in it, or it cannot be written to.
    """
    folder = private_dir(run_dir, tighten=(CONFIG_FILE,))
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"run folder {folder} is in use by another process") from error
        path = folder / CONFIG_FILE
        is_new = not path.exists()
        if not is_new:
            _check_same(folder, config)
        elif any(folder.glob("checkpoints/*")):
            raise UsageError(f"--run_dir={folder}: has checkpoints but no {CONFIG_FILE}")
        else:
            write_json(path, config.to_dict())
        try:
            yield folder
        except UsageError:
            # A refused request must not keep the folder from the corrected one.
            if is_new and not any(folder.glob("**/checkpoints/*")):
                for name in (CONFIG_FILE, LABELS_FILE):
                    (folder / name).unlink(missing_ok=True)
            raise


def _check_same(folder: Path, config: Config) -> None:
    try:
        earlier = Config.from_dict(read_json(folder / CONFIG_FILE)).to_dict()
    except UsageError as error:
        raise UsageError(f"--run_dir={folder}: {CONFIG_FILE}: {error}") from error
    for section, options in config.to_dict().items():
        for name, value in options.items():
            before = earlier[section][name]
            # Where the stores are kept does not change what a run computes.
            if before != value and name == "split_version":
                raise UsageError(
                    f"--run_dir={folder}: holds a run whose rows were chosen by --split_version="
                    f"{before}; add that flag to go on with it, or give another --run_dir"
                )
            if before != value and name != "cache_dir":
                raise UsageError(
                    f"--run_dir={folder}: holds a run with --{name}={before}, not {value}; give "
                    "another --run_dir, or the same options to go on with it"
                )


@dataclasses.dataclass(frozen=True)
class RunLabels:
    """What a run's numbers stand for.

    Attributes:
        task_classes: task name -> class names.
        private_classes: names of the private label's classes; empty where there is none.
        data_fingerprint: `Dataset.fingerprint` of the data it was trained on.
        source: the data set that its configuration names, or empty where rows were handed over.
    """

    task_classes: dict[str, tuple[str, ...]]
    private_classes: tuple[str, ...]
    data_fingerprint: str
    source: str = ""


def write_labels(folder: Path, labels: RunLabels) -> None:
    """Keeps class names and data, or checks them against those of the run's first session.

    Raises:
        RunError: the data has changed since, so that rows may have moved between splits.
    """
    path = folder / LABELS_FILE
    if path.exists():
        if read_labels(folder) != labels:
            raise RunError(
                f"run folder {folder}: the data has changed since the run began; start anew in "
                "another --run_dir"
            )
        return
    tasks = [[name, list(names)] for name, names in labels.task_classes.items()]
    private, print_ = list(labels.private_classes), labels.data_fingerprint
    write_json(
        path,
        {
            "tasks": tasks,
            "private": private,
            "data_fingerprint": print_,
            "source": labels.source,
        },
    )


def read_labels(folder: Path) -> RunLabels:
    """The inverse of `write_labels`.

    Raises:
        RunError: the file is missing or damaged.
    """
    found: Any = read_json(folder / LABELS_FILE)
    try:
        return RunLabels(
            {name: tuple(names) for name, names in found["tasks"]},
            tuple(found["private"]),
            found["data_fingerprint"],
            found.get("source", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / LABELS_FILE} is damaged: {error!r}") from error
