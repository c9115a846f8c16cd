"""A run's folder: who may use it, what it says about itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import private_dir, read_json, write_json

CONFIG_FILE = "config.json"
LABELS_FILE = "labels.json"
STATUS_FILE = "training.json"


@contextmanager
def claim(run_dir: str | os.PathLike[str], config: Config) -> Iterator[Path]:
    """Makes or reopens a run folder for `config` and keeps other processes out of it.

    Raises:
        UsageError: the folder holds a run of another configuration.
        RunError: another process trains in it, or it cannot be written to.
    """
    folder = private_dir(run_dir)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"run folder {folder} is in use by another process") from error
        path = folder / CONFIG_FILE
        if path.exists():
            _check_same(folder, config)
        elif any(folder.glob("checkpoints/*")):
            raise UsageError(f"--run_dir={folder}: has checkpoints but no {CONFIG_FILE}")
        else:
            write_json(path, config.to_dict())
        yield folder


def _check_same(folder: Path, config: Config) -> None:
    earlier, now = read_json(folder / CONFIG_FILE), config.to_dict()
    for section, options in now.items():
        for name, value in options.items():
            before = earlier.get(section, {}).get(name)
            # Where the stores are kept does not change what a run computes.
            if before != value and name != "cache_dir":
                raise UsageError(
                    f"--run_dir={folder}: holds a run with --{name}={before}, not {value}; give "
                    "another --run_dir, or the same options to go on with it"
                )


def write_labels(
    folder: Path, task_classes: dict[str, tuple[str, ...]], private_classes: tuple[str, ...]
) -> None:
    """Keeps the class names, without which nothing can be said about a picture later."""
    write_json(
        folder / LABELS_FILE,
        {
            "tasks": [[name, list(names)] for name, names in task_classes.items()],
            "private": list(private_classes),
        },
    )


def read_labels(folder: Path) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The inverse of `write_labels`: task classes and private classes."""
    labels: Any = read_json(folder / LABELS_FILE)
    return {name: tuple(names) for name, names in labels["tasks"]}, tuple(labels["private"])
