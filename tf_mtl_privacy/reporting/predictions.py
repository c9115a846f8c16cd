"""Predictions for picture files as CSV and JSON, and in a few words.

Which picture files a request names, and what to call what is restored from them.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tf_mtl_privacy.data.headers import BadPicture
from tf_mtl_privacy.data.sources.base import SUFFIXES, list_images
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.reporting.formats import count
from tf_mtl_privacy.reporting.pictures import png_bytes


@dataclasses.dataclass(frozen=True)
class PicturePrediction:
    """What is said about one picture file.

    Attributes:
        file: its path.
        probabilities: task -> class name -> probability; empty where the picture failed.
        error: why it could not be read; None where it could.
    """

    file: str
    probabilities: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    error: str | None = None

    def likeliest(self, task: str) -> str:
        """The most probable class of `task`."""
        found = self.probabilities[task]
        return max(found, key=lambda name: found[name])


def to_csv(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """One line per picture: file, most probable class per task, every probability, error."""
    pairs = [(task, name) for task, classes in task_classes.items() for name in classes]
    header = ["file", *task_classes, *(f"{task}:{name}" for task, name in pairs), "error"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for prediction in predictions:
        if prediction.error is not None:
            blanks = [""] * (len(header) - 2)
            writer.writerow([prediction.file, *blanks, prediction.error])
            continue
        likeliest = [prediction.likeliest(task) for task in task_classes]
        figures = [f"{prediction.probabilities[task][name]:.6f}" for task, name in pairs]
        writer.writerow([prediction.file, *likeliest, *figures, ""])
    return out.getvalue()


def to_json(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """A list with one object per picture: `file`, `attributes` (or null) and `error` (or null)."""
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        attributes = None
        if prediction.error is None:
            attributes = {
                task: {
                    "class": prediction.likeliest(task),
                    "probabilities": {
                        name: round(float(p), 6)
                        for name, p in prediction.probabilities[task].items()
                    },
                }
                for task in task_classes
            }
        rows.append({"file": prediction.file, "attributes": attributes, "error": prediction.error})
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def summary(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """How many pictures were read, the first that was not, and how often each class was found."""
    failed = [prediction for prediction in predictions if prediction.error is not None]
    read = [prediction for prediction in predictions if prediction.error is None]
    lines = [f"{count(len(read))} of {count(len(predictions))} pictures read"]
    if failed:
        lines[0] += f"; first that failed: {failed[0].file}: {failed[0].error}"
    for task, classes in task_classes.items() if read else ():
        found = collections.Counter(prediction.likeliest(task) for prediction in read)
        lines.append(f"  {task}: " + ", ".join(f"{count(found[name])} {name}" for name in classes))
    return "\n".join(lines)


_LARGEST_FILE = 200 * 2**20


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
        if not given.strip():
            raise UsageError(f"--input={given}: expected an image file or a folder of them")
        path = Path(given)
        if path.is_file():
            found.append(PictureFile(path, PurePosixPath(path.name)))
        elif path.is_dir():
            found += [PictureFile(path / n, PurePosixPath(n)) for n in list_images(path)]
        else:
            raise UsageError(f"--input={given}: no such file or folder")
    if not found:
        raise UsageError(
            f"--input={', '.join(inputs)}: no pictures there (expected {' '.join(SUFFIXES)})"
        )
    return found


def read_content(file: PictureFile) -> bytes:
    """A picture file's content.

    Raises:
        BadPicture: it cannot be read, or is too large.
    """
    try:
        if file.path.stat().st_size > _LARGEST_FILE:
            raise BadPicture("file larger than 200 MiB")
        return file.path.read_bytes()
    except OSError as error:
        raise BadPicture(error.strerror or str(error)) from error


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


def write_picture(path: Path, image: Any) -> None:
    """Writes `[H, W, 3]` uint8 as a PNG file for the owner only, and its folder if missing.

    Raises:
        RunError: it cannot be written.
    """
    private_dir(path.parent)
    write_atomic(path, png_bytes(image), private=True)
