"""CelebA in its official layout (Liu et al., "Deep Learning Face Attributes in the Wild", 2015).

Also as Kaggle has it: CSV tables, and the folder of the pictures once more inside itself.

CelebA's tables, as they are published and as people have them.

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

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.preprocess import map_points
from tf_mtl_privacy.data.sources.base import (
    LabelTable,
    Pictures,
    content_hash,
    find_root,
    fingerprint,
    images_hash,
    match_names,
    read_files,
    require_images,
    unpack_hint,
)
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


# Height and width of the aligned pictures, which the landmark file refers to.
_ALIGNED = (218, 178)
_PICTURES = ("img_align_celeba", "img_align_celeba_png")
_IMAGE_FOLDERS = (*_PICTURES, *(f"Img/{name}" for name in _PICTURES))
_TABLE_FOLDERS = (".", "Anno", "Eval")


class CelebASource:
    """Rows in the order of `list_attr_celeba`, `.txt` or `.csv`.

    A row whose image is missing counts as damaged; an image without a row is counted in a warning.
    An image is found by its name without the ending, so PNG files do as well.

    Raises:
        UsageError: a folder or file that is needed is not there.
    """

    name, has_regions = "celeba", False

    def __init__(self, config: DataConfig) -> None:
        asked = f"--data_dir={config.data_dir}"
        self.size, self._crop = config.image_size, config.effective_crop
        root = find_root(_above_pictures(config.data_dir), _holds_pictures)
        places = [root, root / "Img", *(root / name for name in _TABLE_FOLDERS)]
        folders = [root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()]
        if not folders:
            hint = unpack_hint(places, _PICTURES)
            raise UsageError(f"{asked}: no folder img_align_celeba in it (CelebA's layout){hint}")
        # Some archives hold the folder once more inside itself.
        inner = folders[0] / folders[0].name
        self._folder = inner if inner.is_dir() else folders[0]
        self._images = require_images(self._folder, asked)
        names = (ATTRIBUTES_FILE, PARTITION_FILE, IDENTITY_FILE, LANDMARKS_FILE)
        self._tables = {name: _find(root, name) for name in names}
        needed = [ATTRIBUTES_FILE, PARTITION_FILE]
        if config.effective_private_label == "identity":
            needed.append(IDENTITY_FILE)
        for name in needed:
            if self._tables[name] is None:
                raise UsageError(
                    f"{asked}: no file {name} (CelebA's layout), nor {table_names(name)[1]}"
                    + unpack_hint(places, table_names(name))
                )
        self._attributes: Columns | None = None
        self._files: list[str] = []

    def fingerprint(self) -> str:
        """See `DataSource.fingerprint`."""
        tables = {name: path and content_hash(path) for name, path in self._tables.items()}
        return fingerprint(
            self.name,
            self.size,
            self._crop,
            sorted(tables.items()),
            images_hash(self._images),
        )

    def load(self) -> LabelTable:
        """See `DataSource.load`.

        Raises:
            UsageError: a table with a wrong header, count or row, named by file and line.
        """
        keys, columns, names, _ = self._main()
        partition, missing = self._aligned(PARTITION_FILE)
        if missing.any():
            raise UsageError(
                f"{self._tables[PARTITION_FILE]}: no row for {keys[missing][0]}, which "
                f"{self._name(ATTRIBUTES_FILE)} has"
            )
        person, about_people = self._people()
        landmarks, about_landmarks = self._landmarks()
        extra = len(self._images.keys() - set(self._names()))
        without = f"{extra} images of {self._folder.name} have no row in "
        return LabelTable(
            keys=keys,
            split=partition[:, 0].astype(np.int8),
            attributes={name: (columns[:, k] > 0).astype(np.int32) for k, name in enumerate(names)},
            attribute_classes={name: (f"not_{name}", name) for name in names},
            person=person,
            landmarks=landmarks,
            warnings=(
                *((without + self._name(ATTRIBUTES_FILE),) if extra else ()),
                *about_people,
                *about_landmarks,
            ),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `DataSource.read`."""
        names = self._names()
        return read_files(self._folder, [names[row] for row in rows], self.size, self._crop)

    def _names(self) -> list[str]:
        """The file of each row's picture."""
        if not self._files:
            self._files = match_names(self._main().keys.tolist(), self._images)
        return self._files

    def _main(self) -> Columns:
        if self._attributes is None:
            self._attributes = read_table(self._tables[ATTRIBUTES_FILE], has_header=True)
        return self._attributes

    def _name(self, name: str) -> str:
        path = self._tables[name]
        return name if path is None else path.name

    def _people(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """`[N]` int64 person, -1 where the table has no row or no number; and what to warn of."""
        if self._tables[IDENTITY_FILE] is None:
            return None, ()
        values, missing = self._aligned(IDENTITY_FILE)
        person = np.where(missing, -1, values[:, 0]).astype(np.int64)
        unknown = int((person < 0).sum())
        if not unknown:
            return person, ()
        text = f"{self._name(IDENTITY_FILE)} does not say who is in {unknown} of {len(person)} rows"
        return person, (f"{text}; they are nobody's where people are told apart",)

    def _landmarks(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        if self._tables[LANDMARKS_FILE] is None:
            return None, ()
        values, missing = self._aligned(LANDMARKS_FILE)
        if missing.any():
            text = f"{self._name(LANDMARKS_FILE)} has no row for {int(missing.sum())} images"
            return None, (f"{text}, so that its landmarks are not used",)
        return map_points(values, *_ALIGNED, self.size, self._crop), ()

    def _aligned(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Columns of table `name` in the order of the attribute table, and which rows it lacks."""
        keys = self._main().keys
        table = read_table(self._tables[name], has_header=name == LANDMARKS_FILE)
        if np.array_equal(table.keys, keys):
            return table.values, np.zeros(len(keys), bool)
        position = {key: number for number, key in enumerate(table.keys.tolist())}
        order = np.array([position.get(key, -1) for key in keys.tolist()])
        return table.values[order], order < 0


def _above_pictures(data_dir: str) -> str:
    """The folder itself, or the one that has the tables where the pictures' own was named."""
    root = Path(data_dir).expanduser().absolute()
    for _ in range(2):
        if root.name in _PICTURES and not _find(root, ATTRIBUTES_FILE):
            root = root.parent
            if _find(root, ATTRIBUTES_FILE):
                return str(root)
    return data_dir


def _holds_pictures(root: Path) -> bool:
    return any((root / name).is_dir() for name in _IMAGE_FOLDERS)


def _find(root: Path, name: str) -> Path | None:
    paths = [root / folder / file for file in table_names(name) for folder in _TABLE_FOLDERS]
    return next((path for path in paths if path.is_file()), None)
