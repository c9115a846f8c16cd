"""Pictures in folders: listing them, and reading them by name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_mtl_privacy.data.headers import PREPROCESS_VERSION, BadPicture
from tf_mtl_privacy.data.layout import unpack_hint
from tf_mtl_privacy.data.source import Pictures
from tf_mtl_privacy.errors import UsageError

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
