"""A folder of images with a table `labels.csv`: file, attributes, optional identity and split."""

from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.labels import MISSING, alike
from tf_mtl_privacy.data.sources.base import (
    SPLITS,
    LabelTable,
    Pictures,
    content_hash,
    fingerprint,
    images_hash,
    match_names,
    read_files,
    require_images,
    unpack_hint,
)
from tf_mtl_privacy.data.splitting import (
    HOLDOUT_NOTE,
    SPLIT_VERSION,
    random_split,
    split_names,
    with_validation,
)
from tf_mtl_privacy.errors import UsageError

TABLE_FILE = "labels.csv"
# In the fingerprint of a table whose names are not read as they are written.
_NAMES_VERSION = 2
_DRIVE = re.compile("[A-Za-z]:/")


class Cells(NamedTuple):
    """Contents of the table.

    Attributes:
        files: `[N]` the picture of each row, with `/` and without `.`, as the folder has it.
        columns: name -> its cells, without blanks around them; without the column `file`.
        lines: where in the file each row is.
        renamed: whether a picture is written in another way in the table.
    """

    files: list[str]
    columns: dict[str, list[str]]
    lines: list[int]
    renamed: bool


class CsvSource:
    """Rows in the order of `labels.csv`.

    Classes of an attribute are its different values, sorted (by number where all are numbers);
    an empty cell is unknown. Without a column `split` rows are split 80/10/10 by their names and
    the data seed: whole people where there is a column `identity`, so that nobody is in two splits.
    Where it names no validation row, some of train are held out in the same way.

    Raises:
        UsageError: the folder, an image or the table is not there.
    """

    name, has_regions = "csv", False

    def __init__(self, config: DataConfig) -> None:
        self._folder, asked = Path(config.data_dir).expanduser(), f"--data_dir={config.data_dir}"
        self._images = require_images(self._folder, asked)
        self._table = self._folder / TABLE_FILE
        if not self._table.is_file():
            hint = unpack_hint((self._folder,), (TABLE_FILE,))
            raise UsageError(f"{asked}: no file {TABLE_FILE} in it{hint}")
        self.size, self._crop, self._seed = (
            config.image_size,
            config.effective_crop,
            config.data_seed,
        )
        self._cells: Cells | None = None

    def fingerprint(self) -> str:
        """See `DataSource.fingerprint`."""
        table, images = content_hash(self._table), images_hash(self._images)
        # Tables whose names are read as they are written keep the stores they have.
        names = [_NAMES_VERSION] if self._read().renamed else []
        return fingerprint(
            self.name, self.size, self._crop, table, images, self._seed, SPLIT_VERSION, *names
        )

    def load(self) -> LabelTable:
        """See `DataSource.load`.

        Raises:
            UsageError: the table has a wrong header or row, named by line, or two rows that are
                one picture.
        """
        cells = self._read()
        _refuse_links(self._folder, self._table, cells)
        columns, lines = dict(cells.columns), cells.lines
        keys = np.array(cells.files, dtype=np.str_)
        split, identity = columns.pop("split", None), columns.pop("identity", None)
        person = None
        if identity is not None:
            codes, _ = encode(identity)
            person = codes.astype(np.int64)
        encoded = {name: encode(values) for name, values in columns.items()}
        extra = len(self._images.keys() - set(cells.files))
        warnings = [f"{extra} images have no row in {TABLE_FILE}"] if extra else []
        warnings += _odd_people(identity or [])
        names = split_names(keys, identity)
        notes: tuple[str, ...] = ()
        if split is None:
            sides = random_split(names, self._seed)
        else:
            sides = _given_split(self._table, split, lines)
            held_out = with_validation(sides, names, self._seed)
            if held_out is not None:
                sides, notes = held_out, (HOLDOUT_NOTE,)
        return LabelTable(
            keys=keys,
            split=sides,
            attributes={name: codes for name, (codes, _) in encoded.items()},
            attribute_classes={name: classes for name, (_, classes) in encoded.items()},
            person=person,
            notes=notes,
            warnings=tuple(warnings),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `DataSource.read`."""
        files = self._read().files
        return read_files(self._folder, [files[row] for row in rows], self.size, self._crop)

    def _read(self) -> Cells:
        if self._cells is None:
            self._cells = read_cells(self._table, self._images)
        return self._cells


def read_cells(path: Path, images: dict[str, int]) -> Cells:
    """Reads the table.

    A picture may be written with backslashes, `./`, or in another case than the folder has it: it
    is one picture still, and may be in one row only. Two rows would count it twice for epsilon
    and could be on both sides of a split.

    Args:
        path: the table.
        images: names of the pictures there are.

    Raises:
        UsageError: no column `file`, no row, a wrong row, or a picture's second row, named by line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    header = lines[0][1] if lines else []
    if "file" not in header or not all(header) or len(set(header)) != len(header):
        raise UsageError(
            f"{path}, line 1: expected different column names, one of them 'file', got "
            f"{','.join(header)[:60]!r}"
        )
    written: list[str] = []
    plain: list[str] = []
    place = header.index("file")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise UsageError(
                f"{path}, line {number}: expected {len(header)} columns, got {len(row)}"
            )
        written.append(row[place])
        plain.append(_plain_name(row[place]))
        if not plain[-1]:
            raise UsageError(_once(path, number, row[place]))
    if not written:
        raise UsageError(f"{path}: no row")
    numbers = [number for number, _ in lines[1:]]
    files = match_names(plain, images, endings=False)
    _refuse_twins(path, files, written, numbers)
    columns = {name: [row[k] for _, row in lines[1:]] for k, name in enumerate(header)}
    del columns["file"]
    return Cells(files, columns, numbers, files != written)


def _plain_name(name: str) -> str:
    """The name with `/` and without `.`; empty where it leads out of the folder."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        return ""
    return "/".join(parts)


def _once(path: Path, number: int, name: str) -> str:
    return f"{path}, line {number}: file {name!r}: expected a name inside the folder, once"


def _refuse_twins(path: Path, files: list[str], written: list[str], lines: list[int]) -> None:
    """Refuses two rows of one of `files`, which need not be names."""
    first: dict[str, int] = {}
    twins = []
    for row, file in enumerate(files):
        if first.setdefault(file, row) != row:
            twins.append(row)
    if not twins:
        return
    row, earlier = twins[0], first[files[twins[0]]]
    more = f" ({len(twins) - 1} more such rows)" if len(twins) > 1 else ""
    raise UsageError(
        f"{_once(path, lines[row], written[row])}; it is the picture of line {lines[earlier]} "
        f"({written[earlier]!r}), and would count twice: remove one of the rows{more}"
    )


def _refuse_links(folder: Path, path: Path, cells: Cells) -> None:
    """Refuses two rows whose names lead to one file by a link."""
    same = []
    for name in cells.files:
        try:
            status = os.stat(folder / name)
        except OSError:  # counted as missing when it is read
            same.append(f"missing {name}")
        else:
            same.append(f"{status.st_dev}/{status.st_ino}")
    _refuse_twins(path, same, cells.files, cells.lines)


def encode(values: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers the different values: `([N] int32, class names)`; an empty value is -1.

    In the order of numbers where all of them are, with `nan` and `inf`, which have no place in it,
    at the end; else in the order of text.
    """
    different = set(values) - {""}
    try:
        classes = sorted(different, key=_by_number)
    except ValueError:
        classes = sorted(different)
    number = {text: code for code, text in enumerate(classes)}
    return np.array([number.get(text, -1) for text in values], np.int32), tuple(classes)


def _odd_people(identity: list[str]) -> list[str]:
    """Warns of names of people that are probably no others, or nobody's."""
    names = sorted(set(identity) - {""})
    found = []
    groups = alike(names)
    if groups:
        first = ", ".join(repr(name) for name in groups[0])
        found.append(
            f"identity: {len(groups)} people are written in several ways ({first}, say) and count "
            "as several people, who may be in train and test"
        )
    missing = [name for name in names if name.lower() in MISSING]
    if missing:
        first = ", ".join(repr(name) for name in missing)
        found.append(f"identity: {first} counts as a person; leave these cells empty if unknown")
    return found


def _by_number(text: str) -> tuple[bool, float, str]:
    value = float(text)
    finite = math.isfinite(value)
    return not finite, value if finite else 0.0, text


def _given_split(path: Path, values: list[str], lines: list[int]) -> np.ndarray:
    for number, text in zip(lines, values, strict=True):
        if text not in SPLITS[:3]:
            raise UsageError(
                f"{path}, line {number}: split {text!r}: expected train, validation or test"
            )
    return np.array([SPLITS.index(text) for text in values], np.int8)
