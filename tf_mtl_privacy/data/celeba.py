"""CelebA in its official layout (Liu et al., "Deep Learning Face Attributes in the Wild", 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.celeba_tables import (
    ATTRIBUTES_FILE,
    IDENTITY_FILE,
    LANDMARKS_FILE,
    PARTITION_FILE,
    read_table,
)
from tf_mtl_privacy.data.image_files import content_hash, images_hash, read_files, require_images
from tf_mtl_privacy.data.points import map_points
from tf_mtl_privacy.data.source import Pictures, Table, fingerprint
from tf_mtl_privacy.errors import UsageError

# Height and width of the aligned pictures, which the landmark file refers to.
_ALIGNED = (218, 178)
_IMAGE_FOLDERS = ("img_align_celeba", "Img/img_align_celeba")
_TABLE_FOLDERS = (".", "Anno", "Eval")


class CelebASource:
    """Rows in the order of `list_attr_celeba.txt`.

    A row whose image is missing counts as damaged; an image without a row is counted in a warning.

    Raises:
        UsageError: a folder or file that is needed is not there.
    """

    name, has_regions = "celeba", False

    def __init__(self, config: DataConfig) -> None:
        root, asked = Path(config.data_dir).expanduser(), f"--data_dir={config.data_dir}"
        if not root.is_dir():
            raise UsageError(f"{asked}: no such folder")
        self.size, self._crop = config.image_size, config.effective_crop
        folders = [root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()]
        if not folders:
            raise UsageError(f"{asked}: no folder img_align_celeba in it (CelebA's layout)")
        # Some archives hold the folder once more inside itself.
        inner = folders[0] / "img_align_celeba"
        self._folder = inner if inner.is_dir() else folders[0]
        self._images = require_images(self._folder, asked)
        names = (ATTRIBUTES_FILE, PARTITION_FILE, IDENTITY_FILE, LANDMARKS_FILE)
        self._tables = {name: _find(root, name) for name in names}
        needed = [ATTRIBUTES_FILE, PARTITION_FILE]
        if config.effective_private_label == "identity":
            needed.append(IDENTITY_FILE)
        for name in needed:
            if self._tables[name] is None:
                raise UsageError(f"{asked}: no file {name} (CelebA's layout)")
        self._keys: np.ndarray | None = None

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
        keys, columns, names = read_table(self._tables[ATTRIBUTES_FILE], has_header=True)
        self._keys = keys
        attributes = {name: (columns[:, k] > 0).astype(np.int32) for k, name in enumerate(names)}
        extra = len(self._images.keys() - set(keys.tolist()))
        without = f"{extra} images of {self._folder.name} have no row in {ATTRIBUTES_FILE}"
        return Table(
            keys=keys,
            split=self._aligned(PARTITION_FILE)[:, 0].astype(np.int8),
            attributes=attributes,
            attribute_classes={name: (f"not_{name}", name) for name in names},
            person=self._optional(IDENTITY_FILE, lambda values: values[:, 0].astype(np.int64)),
            landmarks=self._optional(
                LANDMARKS_FILE, lambda values: map_points(values, *_ALIGNED, self.size, self._crop)
            ),
            warnings=(without,) if extra else (),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `Source.read`."""
        if self._keys is None:
            self._keys = read_table(self._tables[ATTRIBUTES_FILE], has_header=True)[0]
        return read_files(self._folder, self._keys[rows].tolist(), self.size, self._crop)

    def _optional(self, name, convert):  # type: ignore[no-untyped-def]
        return None if self._tables[name] is None else convert(self._aligned(name))

    def _aligned(self, name: str) -> np.ndarray:
        """The columns of table `name` in the order of the attribute table's rows."""
        path, keys = self._tables[name], self._keys
        assert path is not None and keys is not None
        others, columns, _ = read_table(path, has_header=name == LANDMARKS_FILE)
        if np.array_equal(others, keys):
            return columns
        position = {key: number for number, key in enumerate(others.tolist())}
        order = [position.get(key, -1) for key in keys.tolist()]
        if min(order) < 0:
            missing = keys[order.index(-1)]
            raise UsageError(f"{path}: no row for {missing}, which {ATTRIBUTES_FILE} has")
        return columns[order]


def _find(root: Path, name: str) -> Path | None:
    paths = [root / folder / name for folder in _TABLE_FOLDERS]
    return next((path for path in paths if path.is_file()), None)
