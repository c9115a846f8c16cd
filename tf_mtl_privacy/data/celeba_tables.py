"""CelebA's text tables: an optional count line and header line, then one row per image."""

from __future__ import annotations

import array
from pathlib import Path

import numpy as np

from tf_mtl_privacy.errors import UsageError

ATTRIBUTES_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IDENTITY_FILE = "identity_CelebA.txt"
LANDMARKS_FILE = "list_landmarks_align_celeba.txt"

# What a table may hold, in words and as text -> value; any whole number where it is not named.
_VALUES: dict[str, tuple[str, dict[str, int] | None]] = {
    ATTRIBUTES_FILE: ("-1 or 1", {"-1": -1, "1": 1}),
    PARTITION_FILE: ("0, 1 or 2", {"0": 0, "1": 1, "2": 2}),
}


def read_table(path: Path | None, *, has_header: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Reads one table.

    Args:
        path: the file; its name decides which values are allowed.
        has_header: whether a line with the number of rows and a line of column names come first
            (attributes and landmarks) or rows of one value alone (partition and identity).

    Returns:
        `(file names [N] text, values [N, columns] int32, column names)`.

    Raises:
        UsageError: naming file and line of a wrong count, header or row, or a name that stands
            twice.
    """
    assert path is not None
    lines = _lines(path)
    names, count, first = ["value"], None, 0
    if has_header:
        count, names = _header(path, lines)
        first = 2
    keys: dict[str, int] = {}
    values = array.array("i")
    for number, line in enumerate(lines[first:], first + 1):
        key, *texts = line.split() or [""]
        if not key:
            continue
        if len(texts) != len(names):
            raise UsageError(
                f"{path}, line {number}: expected a file name and {len(names)} values, got "
                f"{len(texts) + 1} columns"
            )
        if key in keys:
            raise UsageError(f"{path}, line {number}: {key} stands here a second time")
        keys[key] = number
        try:
            values.extend(_numbers(path, number, texts))
        except OverflowError as error:
            raise UsageError(f"{path}, line {number}: a number is too large") from error
    if count is not None and count != len(keys):
        raise UsageError(f"{path}, line 1: says {count} rows, there are {len(keys)}")
    columns = np.array(values, np.int32).reshape(len(keys), len(names))
    return np.array(list(keys), dtype=np.str_), columns, names


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"{path}: the file is empty")
    return lines


def _header(path: Path, lines: list[str]) -> tuple[int, list[str]]:
    if not lines[0].strip().isdigit():
        raise UsageError(f"{path}, line 1: expected the number of rows, got {lines[0][:40]!r}")
    names = lines[1].split() if len(lines) > 1 else []
    # A data row in place of the header has numbers in it.
    if not names or any(_is_number(name) for name in names) or len(set(names)) != len(names):
        got = lines[1][:40] if len(lines) > 1 else ""
        raise UsageError(f"{path}, line 2: expected different column names, got {got!r}")
    return int(lines[0]), names


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _numbers(path: Path, number: int, texts: list[str]) -> list[int]:
    expected, allowed = _VALUES.get(path.name, ("a whole number", None))
    try:
        if allowed is not None:
            return [allowed[text] for text in texts]
        return [int(text) for text in texts]
    except (KeyError, ValueError):
        wrong = next(t for t in texts if not _is_number(t) or (allowed and t not in allowed))
        raise UsageError(f"{path}, line {number}: expected {expected}, got {wrong!r}") from None
