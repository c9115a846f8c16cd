"""Pictures in folders: listing them, and reading them by name.

Finds a data set in the folder that was named: in it, in the one below, or not unpacked yet.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tf_mtl_privacy.data.headers import PREPROCESS_VERSION, BadPicture
from tf_mtl_privacy.data.sources.base import Pictures
from tf_mtl_privacy.errors import UsageError

_ARCHIVES = (".zip", ".7z", ".7z.001", ".tgz", ".tar", ".tar.gz", ".gz", ".rar")
_NAMED = 3


def find_root(data_dir: str, holds: Callable[[Path], bool]) -> Path:
    """Returns the folder that holds the data set.

    That is `data_dir` itself, or the only folder in it that holds one where it does not (people
    name the folder above `celeba/`, as other libraries want it).

    Args:
        data_dir: as it was given.
        holds: says of a folder if the data set's pictures lie in it.

    Returns:
        `data_dir` where neither it nor a folder in it holds the data set.

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
    """Says if a file's name is that of an archive."""
    return path.name.lower().endswith(_ARCHIVES)


def unpack_hint(folders: Iterable[Path], wanted: Sequence[str] = ()) -> str:
    """Names archives in `folders` that are not unpacked, as the end of a message; or an empty text.

    Args:
        folders: where to look; missing ones are left out.
        wanted: what the names of archives begin with that are named first, or alone.
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
    is_one = len(shown) == 1
    return (
        f"; {names} {'is' if is_one else 'are'} there and not unpacked: unpack "
        f"{'it' if is_one else 'them'} in {'its' if is_one else 'their'} folder"
    )


def match_names(
    names: Sequence[str], files: Mapping[str, int], *, endings: bool = True
) -> list[str]:
    """Finds the file of each name: the one so called, else one that differs in case or ending.

    CelebA's tables say `000001.jpg` also where the pictures are PNG files. Letters that Unicode
    writes in two ways (macOS has its own in file names) are the same.

    Args:
        names: as a table has them.
        files: names of the files there are.
        endings: whether another ending will do.

    Returns:
        `[N]` names of files; a name without a file stays as it is.
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


SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm")


def list_images(folder: Path) -> dict[str, int]:
    """Name (with `/` for subfolders) -> bytes, of all files in `folder` that look like pictures.

    Hidden files and folders and links that lead nowhere are left out; a folder that a link leads
    back into is read once. Names are sorted.

    Raises:
        UsageError: a folder cannot be read.
    """
    found: dict[str, int] = {}
    # Each with the folders around it, by which a link back is known.
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
    """What a folder's entry leads to; None where it is a link to nothing, or to itself."""
    try:
        return entry.stat()
    except OSError:
        return None


def require_images(folder: Path, asked: str) -> dict[str, int]:
    """`list_images`, which must not be empty.

    Args:
        folder: where to look.
        asked: the flag that leads here, for the message.

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
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def images_hash(images: dict[str, int]) -> str:
    """SHA-256 (hex) over names and sizes; a change that keeps a file's size is not seen."""
    digest = hashlib.sha256(f"preprocess {PREPROCESS_VERSION}".encode())
    digest.update("\n".join(f"{name}/{size}" for name, size in images.items()).encode())
    return digest.hexdigest()


def read_files(folder: Path, names: Sequence[str], size: int, crop: str) -> Pictures:
    """Reads and prepares picture files; see `preprocess` for `size` and `crop`."""
    # Imported here: a wrong folder is named, and a finished store opened, without TensorFlow.
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
