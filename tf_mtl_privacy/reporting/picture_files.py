"""Which picture files a request names, and what to call what is restored from them."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tf_mtl_privacy.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm")


class PictureFile(NamedTuple):
    """A picture file.

    Attributes:
        path: where it is.
        relative: its path below the folder that was named, or its own name.
    """

    path: Path
    relative: PurePosixPath


def find_pictures(inputs: Sequence[str]) -> list[PictureFile]:
    """The files named, and the pictures in the folders named, recursively and sorted.

    In a folder only names that end like a picture's count, and hidden files and folders do not.

    Raises:
        UsageError: a path that is neither file nor folder, or nothing that could be a picture.
    """
    found: list[PictureFile] = []
    for given in inputs:
        path = Path(given)
        if path.is_file():
            found.append(PictureFile(path, PurePosixPath(path.name)))
        elif path.is_dir():
            found += _in_folder(path)
        else:
            raise UsageError(f"--input={given}: no such file or folder")
    if not found:
        raise UsageError(
            f"--input={', '.join(inputs)}: no pictures there (expected {' '.join(SUFFIXES)})"
        )
    return found


def restored_names(files: Sequence[PictureFile]) -> list[str]:
    """A different name below the output folder for each file: `a/b.jpg` -> `a/b_restored.png`.

    Where that name is taken, the original's ending, then a number is added.
    """
    stems = collections.Counter(str(file.relative.with_suffix("")) for file in files)
    taken: set[str] = set()
    names = []
    for file in files:
        stem = str(file.relative.with_suffix(""))
        if stems[stem] > 1:
            stem += file.relative.suffix.replace(".", "_")
        name, number = f"{stem}_restored.png", 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}_restored.png"
        taken.add(name)
        names.append(name)
    return names


def _in_folder(folder: Path) -> list[PictureFile]:
    files = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            files.append(PictureFile(path, PurePosixPath(relative.as_posix())))
    return files
