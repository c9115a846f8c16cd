"""Finds a data set in the folder that was named: in it, in the one below, or not unpacked yet."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

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
