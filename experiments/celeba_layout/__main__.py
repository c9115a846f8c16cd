"""Writes drawn faces in CelebA's layout, with a private label that removal was not designed for.

    python -m experiments.celeba_layout --folder=FOLDER [--rows=12000] [--shift=all] [--seed=0]

The faces are the shifted synthetic faces of the package (colours, light, blur, backgrounds, poses).
Each iris is repainted in one of eight unrelated colours; the iris label of the package is a tint
along one colour axis instead. The number of the colour is the joint code of `Eyeglasses`,
`Narrow_Eyes` and `Bags_Under_Eyes`, so that the private label of `celeba.cfg` is the colour of the
iris. `Male`, `Young` and `Smiling` are labels of the face. Four fifths of the rows are for
training, a tenth each for validation and testing. Output: `img_align_celeba/`,
`list_attr_celeba.txt` and `list_eval_partition.txt`, complete or not at all.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.runs import one_line_errors
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.synthetic_faces.attributes import CHILD, SHIFTS, YOUNG
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.progress import Progress

# Red, green and blue in [0, 1]; not along one axis.
COLOURS = np.array(
    [
        (0.85, 0.20, 0.20),
        (0.20, 0.70, 0.25),
        (0.20, 0.30, 0.90),
        (0.85, 0.75, 0.15),
        (0.60, 0.20, 0.75),
        (0.15, 0.75, 0.80),
        (0.45, 0.28, 0.12),
        (0.55, 0.55, 0.58),
    ],
    np.float32,
)
CODE = ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes")
# Size of aligned CelebA pictures; `prepare` crops the central square.
_WIDTH, _HEIGHT, _CHUNK = 178, 218, 240
# A stream of no run.
STREAM, DRAWN_SIZE = "celeba_layout", 96


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Draws the faces and writes pictures and tables."""
    options = _options(sys.argv[1:] if argv is None else argv)
    folder = Path(options.folder)
    if folder.exists():
        raise UsageError(f"--folder={folder}: the folder exists; give the name of a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when complete: an interrupted call leaves no folder that looks like a data set.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        unfinished = Path(scratch) / folder.name
        write_layout(unfinished, options.rows, options.shift, options.seed)
        unfinished.rename(folder)
    print(f"{options.rows} pictures in {folder}")
    return 0


def write_layout(folder: Path, rows: int, shift: str, seed: int) -> None:
    """Writes pictures and tables.

    Args:
        folder: new folder; its parent exists.
        rows: number of pictures, at least 10.
        shift: shift of the faces, one of `SHIFTS`.
        seed: seed of the faces.
    """
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    names = [f"{number + 1:06d}.jpg" for number in range(rows)]
    lines = []
    with Progress(rows, "drawing faces", "faces") as bar:
        for start in range(0, rows, _CHUNK):
            numbers = np.arange(start, min(start + _CHUNK, rows))
            faces = synthetic_faces.render(seed, STREAM, numbers, size=DRAWN_SIZE, shift=shift)
            images = recoloured(faces.image, faces.iris_mask, faces.iris)
            for number, image in zip(numbers, images, strict=True):
                (pictures / names[number]).write_bytes(_jpeg(image))
            lines += [
                f"{names[number]} " + " ".join(f"{value:2d}" for value in values)
                for number, values in zip(numbers, _attributes(faces), strict=True)
            ]
            bar.update(len(numbers))
    header = [str(rows), " ".join((*CODE, "Male", "Smiling", "Young"))]
    _write(folder / "list_attr_celeba.txt", [*header, *lines])
    tenth = rows // 10
    parts = np.repeat([0, 1, 2], [rows - 2 * tenth, tenth, tenth])
    _write(
        folder / "list_eval_partition.txt",
        [f"{name} {part}" for name, part in zip(names, parts, strict=True)],
    )


def recoloured(
    images: np.ndarray, iris: np.ndarray, classes: np.ndarray, strength: float = 0.7
) -> np.ndarray:
    """Paints each iris in the colour of its class and keeps the brightness of its pixels.

    Args:
        images: `[N, S, S, 3]` uint8.
        iris: `[N, S, S]` bool, True on the iris.
        classes: `[N]` int in [0, 8).
        strength: share of the new colour in [0, 1].

    Returns:
        `[N, S, S, 3]` uint8.
    """
    values = images.astype(np.float32) / 255
    brightness = values.mean(axis=-1, keepdims=True)
    colour = COLOURS[classes][:, None, None, :]
    painted = np.clip(colour * (0.35 + 1.3 * brightness), 0, 1)
    blended = np.where(iris[..., None], (1 - strength) * values + strength * painted, values)
    return np.rint(255 * blended).astype(np.uint8)


def _attributes(faces: synthetic_faces.Faces) -> np.ndarray:
    """Returns `[N, 6]` of -1 and 1, in the column order of the table."""
    bits = [(faces.iris >> place) & 1 for place in (2, 1, 0)]
    young = (faces.age == CHILD) | (faces.age == YOUNG)
    return 2 * np.stack([*bits, faces.gender, faces.expression, young], axis=1).astype(int) - 1


def _jpeg(image: np.ndarray) -> bytes:
    """Returns a JPEG of CelebA's size: the square picture in the middle, its edge rows repeated."""
    square = np.asarray(Image.fromarray(image).resize((_WIDTH, _WIDTH), Image.Resampling.BICUBIC))
    above = (_HEIGHT - _WIDTH) // 2
    whole = np.pad(square, ((above, _HEIGHT - _WIDTH - above), (0, 0), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.celeba_layout", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--folder", required=True, help="new folder to write to")
    parser.add_argument("--rows", type=int, default=12_000, help="number of pictures, at least 10")
    parser.add_argument("--shift", default="all", choices=SHIFTS, help="shift of the faces")
    parser.add_argument("--seed", type=int, default=0, help="seed of the faces")
    options = parser.parse_args(argv)
    if options.rows < 10:
        raise UsageError(f"--rows={options.rows}: expected at least 10")
    return options


if __name__ == "__main__":
    sys.exit(main())
