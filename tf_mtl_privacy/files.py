"""Writing files so that nothing is half-written and nobody else can read them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError


def private_dir(path: str | os.PathLike[str]) -> Path:
    """Creates `path` (and its parents) readable by the owner only, and returns it.

    Raises:
        RunError: the folder cannot be made or cannot be written to.
    """
    folder = Path(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"cannot write to folder {folder}: {error.strerror or error}") from error
    return folder


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes a file under a temporary name, syncs it and renames it into place.

    Raises:
        RunError: the file cannot be written (full disk, no permission); what stood there stays.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error


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
