"""Data sources: the contract, the registry, and helpers for sources that are folders of pictures.

A package adds its own data set by registering a source:

    @register_source("my_faces", tasks="gender=gender", private_label="glasses")
    class MyFaces:
        def __init__(self, config: DataConfig) -> None: ...

and implementing `DataSource`. `--dataset=my_faces` then works in every process that has imported
the module. The entry point `my_faces = my_package.my_module` in the group `tf_mtl_privacy.sources`
makes the commands import it. Sources of this package are lines of `_SOURCES` below and of
`DATASETS` in `config.data` instead, so that they are imported only when they are used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.config.data import DATASETS, DatasetDefaults, dataset_defaults
from tf_mtl_privacy.data.headers import PREPROCESS_VERSION, BadPicture
from tf_mtl_privacy.errors import UsageError

# Bumped when the same source would give other pixels or raw labels than before.
SOURCE_VERSION = 1

SPLITS = ("train", "validation", "test", "attacker")
TRAIN, VALIDATION, TEST, ATTACKER = range(4)
DAMAGED = -1


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """Raw labels of a source's N rows.

    Attributes:
        keys: `[N]` text, the file name or another name of the row.
        split: `[N]` int8, an index into `SPLITS`.
        attributes: name -> `[N]` int32 class number, -1 if unknown.
        attribute_classes: name -> names of its classes.
        person: `[N]` int64 number of the person, -1 if unknown; None without identities.
        landmarks: `[N, 10]` float32 pixel positions x, y in the prepared picture (left eye, right
            eye, nose, left and right corner of the mouth); None without landmarks.
        notes: remarks on these labels that readers of results need.
        warnings: oddities of the files that did not stop preparing.
    """

    keys: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    attribute_classes: dict[str, tuple[str, ...]]
    person: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Pictures(NamedTuple):
    """Pictures of n rows, as read from a source.

    Attributes:
        images: `[n, S, S, 3]` uint8, RGB; zeros for a damaged picture.
        reasons: for each row an empty text, or why its picture is damaged or missing.
        regions: `[n, S, S]` bool, the true sensitive region; None if it is unknown.
    """

    images: np.ndarray
    reasons: list[str]
    regions: np.ndarray | None = None


class DataSource(Protocol):
    """One data set in its original form.

    It is made from the `DataConfig`, and raises `UsageError` if its folder is missing or has
    another layout. Its constructor should be fast: commands call it before they load TensorFlow.

    Attributes:
        name: the data set's name, part of the store's folder name.
        size: S, height and width of its prepared pictures, `config.image_size`.
        has_regions: whether `read` returns regions.
    """

    name: str
    size: int
    has_regions: bool

    def fingerprint(self) -> str:
        """Returns hex text that changes with anything that changes pixels or raw labels.

        It must be cheap to compute; the function `fingerprint` makes it from parts. The chosen
        tasks and private label do not belong in it: one store serves them all.
        """
        ...

    def load(self) -> LabelTable:
        """Reads the raw labels of all rows."""
        ...

    def read(self, rows: np.ndarray) -> Pictures:
        """Reads and prepares the pictures of `rows` ([n] int64, ascending); from any thread."""
        ...


SourceMaker = Callable[[DataConfig], DataSource]
Registered = TypeVar("Registered", bound=Callable[[DataConfig], Any])
# Value of --dataset (before a colon) -> its source, or "module:class" to import when needed.
_SOURCES: dict[str, str | SourceMaker] = {
    "synthetic_faces": "tf_mtl_privacy.data.sources.synthetic:SyntheticSource",
    "celeba": "tf_mtl_privacy.data.sources.celeba:CelebASource",
    "lfw": "tf_mtl_privacy.data.sources.lfw:LFWSource",
    "csv": "tf_mtl_privacy.data.sources.csv_folder:CsvSource",
    "tfds": "tf_mtl_privacy.data.sources.tfds:TfdsSource",
}


def register_source(name: str, **defaults: Any) -> Callable[[Registered], Registered]:
    """Registers a class (or function) that makes a `DataSource` from a `DataConfig`.

    Args:
        name: value of --dataset: lowercase letters, digits and _.
        **defaults: fields of `config.data.DatasetDefaults`, such as `tasks` and `private_label`.

    Raises:
        ValueError: the name is taken or not of that form.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r}: expected lowercase letters, digits and _")
    if name in _SOURCES:
        raise ValueError(f"{name!r} is already registered")

    def register(maker: Registered) -> Registered:
        DATASETS[name] = DatasetDefaults(**defaults)
        _SOURCES[name] = maker
        return maker

    return register


def unregister_source(name: str) -> None:
    """Removes a source that `register_source` added; for tests and notebooks."""
    del _SOURCES[name], DATASETS[name]


def source_maker(dataset: str) -> SourceMaker:
    """Returns the callable that makes the source of a data set.

    Args:
        dataset: value of --dataset.

    Raises:
        UsageError: there is no such data set.
    """
    dataset_defaults(dataset)
    maker = _SOURCES[dataset.partition(":")[0]]
    if not isinstance(maker, str):
        return maker
    module, _, attribute = maker.partition(":")
    made: SourceMaker = getattr(importlib.import_module(module), attribute)
    return made


def fingerprint(*parts: object) -> str:
    """Returns the SHA-256 (hex) over the text of `parts`, in order, and `SOURCE_VERSION`."""
    digest = hashlib.sha256(repr(SOURCE_VERSION).encode())
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        # The length keeps ("a", "bc") and ("ab", "c") apart.
        digest.update(b"/%d/" % len(data))
        digest.update(data)
    return digest.hexdigest()


# Helpers for sources that are folders of picture files.
_ARCHIVES = (".zip", ".7z", ".7z.001", ".tgz", ".tar", ".tar.gz", ".gz", ".rar")
_NAMED = 3
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm")


def find_root(data_dir: str, holds: Callable[[Path], bool]) -> Path:
    """Returns the folder that holds the data set: `data_dir`, or the only such folder in it.

    (People name the folder above `celeba/`, as other libraries expect it.)

    Args:
        data_dir: the given folder.
        holds: returns whether a folder holds the data set's pictures.

    Returns:
        `data_dir` if neither it nor a folder in it holds the data set.

    Raises:
        UsageError: no such folder, it is a file, or several folders in it hold the data set.
    """
    root, asked = Path(data_dir).expanduser(), f"--data_dir={data_dir}"
    if root.is_file():
        remedy = "an archive; unpack it and name" if is_archive(root) else "a file; name"
        raise UsageError(f"{asked}: is {remedy} the folder with the pictures and tables")
    if not root.is_dir():
        raise UsageError(f"{asked}: no such folder")
    if holds(root):
        return root
    try:
        inner = sorted(path for path in root.iterdir() if _is_folder(path) and holds(path))
    except OSError as error:
        raise UsageError(f"cannot read {root}: {error.strerror or error}") from error
    if len(inner) > 1:
        names = ", ".join(path.name for path in inner[:_NAMED])
        raise UsageError(f"{asked}: several folders in it hold the data set ({names}); name one")
    return inner[0] if inner else root


def is_archive(path: Path) -> bool:
    """Returns whether a file's name is that of an archive."""
    return path.name.lower().endswith(_ARCHIVES)


def unpack_hint(folders: Iterable[Path], wanted: Sequence[str] = ()) -> str:
    """Returns the end of a message that names archives still to unpack, or an empty text.

    Args:
        folders: where to look; missing ones are skipped.
        wanted: prefixes of file names; if some archives match, only those are named.
    """
    found = [
        path
        for folder in dict.fromkeys(folders)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if is_archive(path) and path.is_file()
    ]
    fitting = [path for path in found if path.name.startswith(tuple(wanted))] if wanted else []
    shown = (fitting or found)[:_NAMED]
    if not shown:
        return ""
    names = ", ".join(str(path) for path in shown)
    return f"; unpack {names} in {'its' if len(shown) == 1 else 'their'} folder"


def match_names(
    names: Sequence[str], files: Mapping[str, int], *, endings: bool = True
) -> list[str]:
    """Finds the file of each name: an exact match, else one that differs in case or extension.

    CelebA's tables say `000001.jpg` even if the pictures are PNG files. Names are compared in
    Unicode's normal form, because macOS writes some letters in another form.

    Args:
        names: names in a table.
        files: names of the existing files.
        endings: whether another extension is accepted.

    Returns:
        `[N]` names of files; a name without a file is returned unchanged.
    """
    if all(name in files for name in names):
        return list(names)
    by_name: dict[str, str] = {}
    by_stem: dict[str, str] = {}
    for file in files:
        by_name.setdefault(_plain(file), file)
        by_stem.setdefault(_stem(file), file)

    def find(name: str) -> str:
        if name in files:
            return name
        found = by_name.get(_plain(name))
        return found or (by_stem.get(_stem(name), name) if endings else name)

    return [find(name) for name in names]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    stem, dot, ending = _plain(name).rpartition(".")
    return stem if dot and "/" not in ending else _plain(name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.name.startswith(".")
    except OSError:
        return False


def list_images(folder: Path) -> dict[str, int]:
    """Returns name (with `/` for subfolders) -> bytes of all picture files in `folder`, sorted.

    Hidden files and folders and broken links are left out; a link to an enclosing folder is not
    followed.

    Raises:
        UsageError: a folder cannot be read.
    """
    found: dict[str, int] = {}
    # Each with its enclosing folders, to detect links back to them.
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        here, around = pending.pop()
        try:
            status = os.stat(folder / here)
            this = (status.st_dev, status.st_ino)
            if this in around:
                continue
            with os.scandir(folder / here) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise UsageError(f"cannot read {folder / here}: {error.strerror or error}") from error
        for entry in shown:
            status_of = _status(entry)
            if status_of is None:
                continue
            if stat.S_ISDIR(status_of.st_mode):
                pending.append((f"{here}{entry.name}/", around | {this}))
            elif entry.name.lower().endswith(SUFFIXES):
                found[here + entry.name] = status_of.st_size
    return dict(sorted(found.items()))


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Returns the status of an entry's target; None for a broken link or a link to itself."""
    try:
        return entry.stat()
    except OSError:
        return None


def require_images(folder: Path, asked: str) -> dict[str, int]:
    """Returns `list_images`, which must not be empty.

    Args:
        folder: where to look.
        asked: the flag to name in the message.

    Raises:
        UsageError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{asked}: no folder {folder}")
    images = list_images(folder)
    if not images:
        hint = unpack_hint((folder, folder.parent))
        raise UsageError(f"{asked}: no picture ({', '.join(SUFFIXES)}) in {folder}{hint}")
    return images


def content_hash(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def images_hash(images: dict[str, int]) -> str:
    """Returns the SHA-256 (hex) over names and sizes; same-size changes go unnoticed."""
    digest = hashlib.sha256(f"preprocess {PREPROCESS_VERSION}".encode())
    digest.update("\n".join(f"{name}/{size}" for name, size in images.items()).encode())
    return digest.hexdigest()


def read_files(folder: Path, names: Sequence[str], size: int, crop: str) -> Pictures:
    """Reads and prepares picture files; see `preprocess` for `size` and `crop`."""
    # Imported here: checking folders and opening a finished store need no TensorFlow.
    from tf_mtl_privacy.data.preprocess import read_picture

    images, reasons = np.zeros((len(names), size, size, 3), np.uint8), []
    for number, name in enumerate(names):
        reason = ""
        try:
            images[number] = read_picture((folder / name).read_bytes(), size, crop)
        except BadPicture as error:
            reason = str(error)
        except FileNotFoundError:
            reason = "no such file"
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        reasons.append(reason)
    return Pictures(images, reasons)
