"""A folder of images with a table `labels.csv`: file, attributes, optional identity and split."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.image_files import content_hash, images_hash, read_files, require_images
from tf_mtl_privacy.data.source import SPLITS, Pictures, Table, fingerprint
from tf_mtl_privacy.data.splitting import (
    HOLDOUT_NOTE,
    SPLIT_VERSION,
    random_split,
    split_names,
    with_validation,
)
from tf_mtl_privacy.errors import UsageError

TABLE_FILE = "labels.csv"


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
            raise UsageError(f"{asked}: no file {TABLE_FILE} in it")
        self.size, self._crop, self._seed = (
            config.image_size,
            config.effective_crop,
            config.data_seed,
        )
        self._keys: np.ndarray | None = None

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        table, images = content_hash(self._table), images_hash(self._images)
        return fingerprint(
            self.name, self.size, self._crop, table, images, self._seed, SPLIT_VERSION
        )

    def load(self) -> Table:
        """See `Source.load`.

        Raises:
            UsageError: the table has a wrong header or row, named by line.
        """
        columns, lines = read_columns(self._table)
        keys = self._keys = np.array(columns.pop("file"), dtype=np.str_)
        split, identity = columns.pop("split", None), columns.pop("identity", None)
        person = None
        if identity is not None:
            codes, _ = encode(identity)
            person = codes.astype(np.int64)
        encoded = {name: encode(values) for name, values in columns.items()}
        extra = len(self._images.keys() - set(keys.tolist()))
        names = split_names(keys, identity)
        notes: tuple[str, ...] = ()
        if split is None:
            sides = random_split(names, self._seed)
        else:
            sides = _given_split(self._table, split, lines)
            held_out = with_validation(sides, names, self._seed)
            if held_out is not None:
                sides, notes = held_out, (HOLDOUT_NOTE,)
        return Table(
            keys=keys,
            split=sides,
            attributes={name: codes for name, (codes, _) in encoded.items()},
            attribute_classes={name: classes for name, (_, classes) in encoded.items()},
            person=person,
            notes=notes,
            warnings=(f"{extra} images have no row in {TABLE_FILE}",) if extra else (),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `Source.read`."""
        if self._keys is None:
            self._keys = np.array(read_columns(self._table)[0]["file"], dtype=np.str_)
        return read_files(self._folder, self._keys[rows].tolist(), self.size, self._crop)


def read_columns(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Column name -> its cells, without blanks around them, and the line of each row in the file.

    Raises:
        UsageError: no column `file`, no row, or a wrong row, named by line.
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
    seen: set[str] = set()
    place = header.index("file")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise UsageError(
                f"{path}, line {number}: expected {len(header)} columns, got {len(row)}"
            )
        name = row[place]
        if not name or Path(name).is_absolute() or ".." in Path(name).parts or name in seen:
            raise UsageError(
                f"{path}, line {number}: file {name!r}: expected a name inside the folder, once"
            )
        seen.add(name)
    if len(lines) < 2:
        raise UsageError(f"{path}: no row")
    columns = {name: [row[k] for _, row in lines[1:]] for k, name in enumerate(header)}
    return columns, [number for number, _ in lines[1:]]


def encode(values: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """`([N] int32 class numbers, class names)`; an empty value is -1."""
    different = set(values) - {""}
    try:
        classes = sorted(different, key=lambda text: (float(text), text))
    except ValueError:
        classes = sorted(different)
    number = {text: code for code, text in enumerate(classes)}
    return np.array([number.get(text, -1) for text in values], np.int32), tuple(classes)


def _given_split(path: Path, values: list[str], lines: list[int]) -> np.ndarray:
    for number, text in zip(lines, values, strict=True):
        if text not in SPLITS[:3]:
            raise UsageError(
                f"{path}, line {number}: split {text!r}: expected train, validation or test"
            )
    return np.array([SPLITS.index(text) for text in values], np.int8)
