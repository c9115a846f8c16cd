"""LFW in its official layout, with the attribute scores of Kumar et al. (ICCV 2009).

For evaluation only. The labels are the outputs of attribute classifiers, not of people: a score
above 0 counts as yes. Age: of the scores Child, Youth, Middle Aged and Senior the largest one
gives `age_group`; Child and Youth are CelebA's Young, Middle Aged and Senior are not.

The usual crop is 'inner', the centred square of 3/4 of the picture's side (187 of 250 pixels): the
eyes are about 41 of 250 pixels apart in (deep-)funneled LFW and 39 of 178 in aligned CelebA, whose
crop is its full width, so 41 * 178 / 39 = 187 pixels show a face at CelebA's scale.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.sources.base import (
    SUFFIXES,
    TEST,
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

TABLE_FILE, CSV_TABLE_FILE = "lfw_attributes.txt", "lfw_attributes.csv"
AGE_GROUPS = ("Child", "Youth", "Middle_Aged", "Senior")
NOTE = (
    "The attributes of LFW are classifier scores (Kumar et al. 2009; above 0 is yes), not human "
    "labels; Young is where Child or Youth is the largest of the four age scores."
)
_ARCHIVES = ("lfw", "lfw-deepfunneled", "lfw_funneled", "lfw-funneled")
# Some archives hold their folder once more inside itself.
_IMAGE_FOLDERS = (*_ARCHIVES, *(f"{name}/{name}" for name in _ARCHIVES), ".")


class LFWSource:
    """Rows in the order of `lfw_attributes.txt` (or `.csv`), all of them for testing.

    An image is found by its name without the ending, so PNG files do as well.

    Raises:
        UsageError: a folder or file that is needed is not there.
    """

    name, has_regions = "lfw", False

    def __init__(self, config: DataConfig) -> None:
        asked = f"--data_dir={config.data_dir}"
        root = find_root(config.data_dir, lambda path: _pictures_in(path) is not None)
        self.size, self._crop = config.image_size, config.effective_crop
        folder = _pictures_in(root)
        if folder is None:
            raise UsageError(
                f"{asked}: no lfw/Person_Name/Person_Name_0001.jpg (LFW's layout)"
                + unpack_hint((root, *(root / name for name in _ARCHIVES)), ("lfw",))
            )
        self._folder = folder
        self._images = require_images(folder, asked)
        # The pictures' own folder may be the one that was named.
        places = [root, folder, *([root.absolute().parent] if root == folder else [])]
        paths = [place / name for name in (TABLE_FILE, CSV_TABLE_FILE) for place in places]
        table = next((path for path in paths if path.is_file()), None)
        if table is None:
            hint = unpack_hint(places, (TABLE_FILE, CSV_TABLE_FILE))
            raise UsageError(f"{asked}: no file {TABLE_FILE} in it{hint}")
        self._table = table
        self._files: list[str] = []

    def fingerprint(self) -> str:
        """See `DataSource.fingerprint`."""
        table, images = content_hash(self._table), images_hash(self._images)
        return fingerprint(self.name, self.size, self._crop, table, images)

    def load(self) -> LabelTable:
        """See `DataSource.load`.

        Raises:
            UsageError: the table has a wrong header or row, named by line.
        """
        people, keys, scores, names = read_scores(self._table)
        self._files = match_names(keys.tolist(), self._images)
        attributes = {name: (scores[:, k] > 0).astype(np.int32) for k, name in enumerate(names)}
        classes: dict[str, tuple[str, ...]] = {name: (f"not_{name}", name) for name in names}
        if set(AGE_GROUPS) <= set(names):
            columns = [names.index(name) for name in AGE_GROUPS]
            group = scores[:, columns].argmax(axis=1).astype(np.int32)
            attributes |= {"age_group": group, "Young": (group < 2).astype(np.int32)}
            classes |= {"age_group": AGE_GROUPS, "Young": ("not_Young", "Young")}
        extra = len(self._images.keys() - set(self._files))
        return LabelTable(
            keys=keys,
            split=np.full(len(keys), TEST, np.int8),
            attributes=attributes,
            attribute_classes=classes,
            person=np.unique(people, return_inverse=True)[1].astype(np.int64),
            notes=(NOTE,),
            warnings=(f"{extra} images have no row in {self._table.name}",) if extra else (),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `DataSource.read`."""
        if not self._files:
            self._files = match_names(read_scores(self._table)[1].tolist(), self._images)
        names = [self._files[row] for row in rows]
        return read_files(self._folder, names, self.size, self._crop)


def _pictures_in(root: Path) -> Path | None:
    """The folder in `root` that has a folder of pictures for each person."""
    candidates = [root / name for name in _IMAGE_FOLDERS]
    return next((path for path in candidates if _has_people(path)), None)


def _has_people(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob("*/*_[0-9]*"))


def read_scores(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Reads `lfw_attributes.txt`, or the same table with commas, without `#`, or quoted.

    Returns:
        `(people [N] text, file names [N] text, scores [N, A] float64, attribute names)`; names
        are written as CelebA writes them ("Middle Aged" -> "Middle_Aged", "5 o' Clock Shadow" ->
        "5_o_Clock_Shadow").

    Raises:
        UsageError: a wrong header or row, named by line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    place, mark, head = next(_heads(lines), (0, "", []))
    if len(head) < 3:
        raise UsageError(
            f"{path}: expected a header line '#<tab>person<tab>imagenum<tab>Male<tab>...'"
        )
    names = [name.strip().replace("'", "").replace(" ", "_") for name in head[2:]]
    people, keys, scores = [], [], []
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip() or number == place:
            continue
        parts = _cells(line, mark)
        try:
            values = [float(text) for text in parts[2:]]
            image = int(parts[1])
        except (ValueError, IndexError):
            values, image = [], 0
        if len(values) != len(names) or not np.isfinite(values).all():
            raise UsageError(
                f"{path}, line {number}: expected a person, a number and {len(names)} scores"
            )
        person = parts[0].strip().replace(" ", "_")
        people.append(person)
        keys.append(f"{person}/{person}_{image:04d}.jpg")
        scores.append(values)
    if not keys:
        raise UsageError(f"{path}: no row")
    return np.array(people), np.array(keys), np.array(scores), names


def _heads(lines: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """(line number, what separates the cells, cells) of the lines that may be the header."""
    for number, line in enumerate(lines, 1):
        for mark in "\t,;":
            cells = _cells(line.lstrip("# \t"), mark)
            if [cell.lower() for cell in cells[:2]] == ["person", "imagenum"]:
                yield number, mark, cells


def _cells(line: str, mark: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=mark), [])
    return [cell.strip() for cell in cells]
