"""CelebA in its official layout (Liu et al., "Deep Learning Face Attributes in the Wild", 2015).

Also as Kaggle has it: CSV tables, and the folder of the pictures once more inside itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.celeba_tables import (
    ATTRIBUTES_FILE,
    IDENTITY_FILE,
    LANDMARKS_FILE,
    PARTITION_FILE,
    Columns,
    read_table,
    table_names,
)
from tf_mtl_privacy.data.image_files import content_hash, images_hash, read_files, require_images
from tf_mtl_privacy.data.layout import find_root, match_names, unpack_hint
from tf_mtl_privacy.data.points import map_points
from tf_mtl_privacy.data.source import Pictures, Table, fingerprint
from tf_mtl_privacy.errors import UsageError

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
        """See `Source.fingerprint`."""
        tables = {name: path and content_hash(path) for name, path in self._tables.items()}
        return fingerprint(
            self.name,
            self.size,
            self._crop,
            sorted(tables.items()),
            images_hash(self._images),
        )

    def load(self) -> Table:
        """See `Source.load`.

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
        return Table(
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
        """See `Source.read`."""
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
