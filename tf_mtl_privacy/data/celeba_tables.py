"""CelebA's tables, as they are published and as people have them.

The official ones are text: a line with the number of rows and one with the names of the columns
(attributes and landmarks), then a file name and values by blanks. Kaggle's are CSV files of the
same names with a header line. Editors and spreadsheets add a byte order mark and quotes.
"""

from __future__ import annotations

import array
import csv
from pathlib import Path
from typing import NamedTuple

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
_FIRST_COLUMN = ("image_id", "image", "img", "file", "filename", "file_name")
_UNKNOWN = ("", "nan", "na", "none", "null")


class Columns(NamedTuple):
    """One table.

    Attributes:
        keys: `[N]` text, file names.
        values: `[N, columns]` int32.
        names: of the columns.
        unknown: how many rows have no value, which is -1; only in a table of identities.
    """

    keys: np.ndarray
    values: np.ndarray
    names: list[str]
    unknown: int


def table_names(name: str) -> tuple[str, str]:
    """The file names under which table `name` (`....txt`) may lie: official, then Kaggle's."""
    return name, name.removesuffix(".txt") + ".csv"


def read_table(path: Path | None, *, has_header: bool) -> Columns:
    """Reads one table.

    Args:
        path: the file; its name decides which values are allowed.
        has_header: whether a line with the number of rows and a line of column names come first
            in the official form (attributes and landmarks), or rows of one value alone (partition
            and identity).

    Raises:
        UsageError: naming file and line of a wrong count, header or row, or a name that is there
            twice.
    """
    assert path is not None
    lines = _lines(path)
    head = _cells(lines[0])
    names, count, first = ["value"], None, 0
    if head and head[0].lower() in _FIRST_COLUMN:
        names, first = _names(path, 1, head[1:], lines[0]), 1
    elif has_header:
        count, names = _header(path, lines)
        first = 2
    kind = path.with_suffix(".txt").name
    keys: dict[str, int] = {}
    values, unknown = array.array("i"), 0
    for number, line in enumerate(lines[first:], first + 1):
        key, *texts = _cells(line) or [""]
        if not key:
            continue
        if kind == IDENTITY_FILE and "".join(texts).lower() in _UNKNOWN:
            texts, unknown = ["-1"], unknown + 1
        if len(texts) != len(names):
            raise UsageError(
                f"{path}, line {number}: expected a file name and {len(names)} values, got "
                f"{len(texts) + 1} columns"
            )
        if key in keys:
            raise UsageError(f"{path}, line {number}: {key} stands here a second time")
        keys[key] = number
        try:
            values.extend(_numbers(path, kind, number, texts))
        except OverflowError as error:
            raise UsageError(f"{path}, line {number}: a number is too large") from error
    if count is not None and count != len(keys):
        raise UsageError(f"{path}, line 1: says {count} rows, there are {len(keys)}")
    columns = np.array(values, np.int32).reshape(len(keys), len(names))
    return Columns(np.array(list(keys), dtype=np.str_), columns, names, unknown)


def _lines(path: Path) -> list[str]:
    try:
        # A byte order mark is no part of the first line.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8; save it as such") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"{path}: the file is empty")
    return lines


def _cells(line: str) -> list[str]:
    """The cells of a line, by blanks, or by the commas, semicolons or tabs in it; unquoted."""
    mark = next((mark for mark in ",;" if mark in line), None)
    if mark is None:
        return [text.strip("\"'") for text in line.split()]
    cells = next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
    return [text.strip().strip("'") for text in cells]


def _header(path: Path, lines: list[str]) -> tuple[int, list[str]]:
    count = lines[0].strip().strip("\"'").rstrip(",;")
    if not count.isdigit():
        raise UsageError(f"{path}, line 1: expected the number of rows, got {lines[0][:40]!r}")
    line = lines[1] if len(lines) > 1 else ""
    names = _cells(line)
    if names and names[0].lower() in ("", *_FIRST_COLUMN):
        names = names[1:]
    return int(count), _names(path, 2, names, line)


def _names(path: Path, number: int, names: list[str], line: str) -> list[str]:
    # A data row in place of the header has numbers in it.
    if not names or any(_is_number(name) for name in names) or len(set(names)) != len(names):
        raise UsageError(
            f"{path}, line {number}: expected different column names, got {line[:40]!r}"
        )
    return names


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _numbers(path: Path, kind: str, number: int, texts: list[str]) -> list[int]:
    expected, allowed = _VALUES.get(kind, ("a whole number", None))
    # A spreadsheet or a data frame with an empty cell writes whole numbers so.
    texts = [text.removesuffix(".0") for text in texts]
    try:
        if allowed is not None:
            return [allowed[text] for text in texts]
        return [int(text) for text in texts]
    except (KeyError, ValueError):
        wrong = next(t for t in texts if not _is_number(t) or (allowed and t not in allowed))
        raise UsageError(f"{path}, line {number}: expected {expected}, got {wrong!r}") from None
