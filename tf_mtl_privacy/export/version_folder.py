"""A new version of a model appears in its folder at once and whole, or not at all.

A server that polls the folder loads whatever has a number for a name. So a version is written into
a hidden folder without one, synced to disk, and renamed.
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
    """The versions in a folder, in order: what a server finds there."""
    return [int(path.name) for path in numbered(export_dir)]


def no_version(export_dir: str | os.PathLike[str]) -> str:
    """Returns the line about a folder in which a server finds no version."""
    folder = Path(export_dir)
    return (
        f"--export_dir={folder}: expected a folder with a version in it, such as {folder / '1'}, "
        "as python -m tf_mtl_privacy.export writes it"
    )


def publish(
    export_dir: str | os.PathLike[str], version: int, write: Callable[[Path, int], None]
) -> Path:
    """Lets `write` fill a new version's folder; the folder then appears under its number.

    What earlier exports that were killed have left is removed.

    Args:
        export_dir: the model's folder; made where it is missing.
        version: its number, or 0 for the next free one.
        write: (empty folder, number) -> writes the version into it.

    Returns:
        The version's folder.

    Raises:
        UsageError: the version is there already.
        RunError: another process exports into the folder, or it cannot be written to.
    """
    folder = private_dir(export_dir)
    with _locked(folder):
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        number = version or max(versions(folder), default=0) + 1
        target = folder / str(number)
        if number in versions(folder):
            raise UsageError(
                f"--version={number}: {target} is there already and is never overwritten; give "
                "another number, or leave the flag out for the next free one"
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
            raise RunError(f"another process exports into {folder}; wait for it") from error
        yield


def _sync(folder: Path) -> None:
    """Everything in a folder, and the folder itself, is on disk afterwards."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync_one(Path(here) / name)
        _sync_one(Path(here))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
