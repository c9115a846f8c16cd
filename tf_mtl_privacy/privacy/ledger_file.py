"""An append-only file of JSON lines that survives kill -9 and power loss: each line is synced.

A line counts once its newline is on disk. A torn last line was never promised to anybody, because
`append` had not returned; it is cut off when the file is opened again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import write_atomic


def create(path: Path, first: dict[str, Any]) -> None:
    """Makes the file with its first line, whole or not at all, unless another process did.

    Raises:
        RunError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_atomic(new, _line(first))
    new.chmod(0o600)
    # A link, unlike a rename, does not replace what another process made meanwhile.
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records, and the length in bytes of the part of the file that holds them.

    Raises:
        RunError: it cannot be read, or a line before the last is not a record.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the ledger {path}: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise RunError(
                f"{path}:{number}: the ledger is damaged, so what was spent is not known; restore "
                "it from a backup or start another run"
            ) from error
        records.append(record)
    return records, len(whole)


class AppendOnly:
    """The open file, locked against other processes.

    Args:
        path: a file that exists.

    Raises:
        RunError: another process has it open, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._broken = path, False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise RunError(f"cannot open the ledger {path}: {error.strerror or error}") from error
        try:
            # The system gives the lock back when the process ends, however it ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise RunError(
                f"the ledger {path} is in use by another process; wait for it or end it"
            ) from error

    def cut(self, length: int) -> None:
        """Drops what is beyond `length` bytes: a torn last line."""
        os.ftruncate(self._file, length)

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record; it is on disk when this returns.

        Raises:
            RunError: it could not be written. What it announces must not happen, and nothing more
                can be written.
        """
        if self._broken:
            raise RunError(f"the ledger {self._path} could not be written before; start again")
        data = _line(record)
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            os.fsync(self._file)
        except OSError as error:
            self._broken = True
            raise RunError(
                f"cannot write the ledger {self._path}: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Closes the file and gives the lock back; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"
