"""Publishes a version of a model atomically: it appears in the model's folder complete, or not.

A server that polls the folder loads everything named by a number. So a version is written to a
hidden folder, synced to disk, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import numbered, private_dir

_LOCK, _UNFINISHED = ".export.lock", ".export-"


def versions(export_dir: str | os.PathLike[str]) -> list[int]:
    """Returns the numbers of the versions in a folder, in ascending order."""
    return [int(path.name) for path in numbered(export_dir)]


def no_version(export_dir: str | os.PathLike[str]) -> str:
    """Returns the error message for a folder without a version."""
    folder = Path(export_dir)
    return (
        f"--export_dir={folder}: expected a folder with a version in it, such as {folder / '1'}, "
        "as written by python -m tf_mtl_privacy.export"
    )


def publish(
    export_dir: str | os.PathLike[str], version: int, write: Callable[[Path, int], None]
) -> Path:
    """Writes a new version with `write`, then makes it visible under its number.

    Remains of exports that were killed are removed.

    Args:
        export_dir: the model's folder; created if missing.
        version: number of the version; 0 for the next free one.
        write: called with an empty folder and the number; writes the version to the folder.

    Returns:
        The version's folder.

    Raises:
        UsageError: the version exists.
        RunError: another process exports to the folder, or it cannot be written.
    """
    folder = private_dir(export_dir)
    with _locked(folder):
        for remains in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(remains, ignore_errors=True)
        number = version or max(versions(folder), default=0) + 1
        target = folder / str(number)
        if number in versions(folder):
            raise UsageError(
                f"--version={number}: {target} exists, and a version is never overwritten; give "
                "another number, or omit the flag for the next free one"
            )
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        try:
            write(unfinished, number)
            _sync(unfinished)
            unfinished.rename(target)
            _sync_one(folder)
        except OSError as error:
            raise RunError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / _LOCK, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise RunError(
                f"another process is exporting to {folder}; wait until it has finished"
            ) from error
        yield


def _sync(folder: Path) -> None:
    """Syncs everything in a folder, and the folder itself, to disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync_one(Path(parent) / name)
        _sync_one(Path(parent))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
