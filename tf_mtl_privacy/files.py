"""Atomic and private files and folders, and JSON."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError


def private_dir(path: str | os.PathLike[str], *, tighten: Sequence[str] = ()) -> Path:
    """Makes a folder, and missing parents, for the owner only; returns it.

    An existing folder keeps its permissions, unless `tighten` is given.

    Args:
        path: the folder.
        tighten: names of files that identify this kind of folder. If others may use an existing
            folder, their permissions are removed if it is empty or has one of these files; any
            other folder is refused.

    Raises:
        RunError: the folder cannot be made or written to, or others may use it.
    """
    folder = Path(path)
    try:
        for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if tighten:
            _tighten(folder, tighten)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"cannot write to folder {folder}: {error.strerror or error}") from error
    return folder


def _tighten(folder: Path, known_by: Sequence[str]) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return
    if any(folder.iterdir()) and not any((folder / name).exists() for name in known_by):
        raise RunError(
            f"folder {folder} has other content and others may use it (mode {mode:04o}): name a "
            "new folder, or run chmod go-rwx on this one"
        )
    folder.chmod(mode & 0o700)


def write_atomic(
    path: str | os.PathLike[str], content: bytes | str, *, private: bool = False
) -> None:
    """Writes a file under a temporary name, syncs it and renames it into place.

    Args:
        path: the file; its folder must exist.
        content: text is written as UTF-8.
        private: whether only the owner may read it, for files about people outside a run folder.

    Raises:
        RunError: the file cannot be written (full disk, no permission); an old file stays.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Checks, before long work, that its result can be written to `path`.

    Raises:
        RunError: the folder is missing or cannot be written to, or `path` is a folder.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as readable JSON, atomically. NaN and infinity are refused (ValueError)."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        RunError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from error


def numbered(folder: str | os.PathLike[str], holding: str = "") -> list[Path]:
    """Returns the entries of a folder that are named by a number, in order: a model's versions.

    Args:
        folder: the folder; may be missing.
        holding: path that an entry must contain; empty means no condition.
    """
    place = Path(folder)
    found = [path for path in place.iterdir() if path.name.isdecimal()] if place.is_dir() else []
    return sorted((p for p in found if (p / holding).exists()), key=lambda path: int(path.name))


def newest_version(folder: str | os.PathLike[str], holding: str) -> Path | None:
    """Returns the folder itself if it has `holding`, else its highest version that has; or None.

    Args:
        folder: folder of one version, or of numbered versions.
        holding: a file's path within a version.
    """
    if (Path(folder) / holding).exists():
        return Path(folder)
    return next(reversed(numbered(folder, holding)), None)
