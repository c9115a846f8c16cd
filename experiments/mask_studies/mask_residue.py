"""Difference between the classes of the private label that remains behind the mask of a run.

    python -m experiments.mask_studies.mask_residue --run_dir=RUN [--faces=1000] [--json=FILE]

No attacker is trained. Each face is drawn once per iris class with nothing else changed, and
covered as the encoder of the run covers it. The remaining difference between the classes is
everything that networks behind the mask can learn about the label. Differences are in levels of
255. Rounding of pictures to whole levels alone accounts for more than one level.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.runs import one_line_errors
from tf_mtl_privacy.data.synthetic_faces import rendering
from tf_mtl_privacy.data.synthetic_faces.attributes import draw_labels
from tf_mtl_privacy.data.synthetic_faces.rendering import Style
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.removal.mask import is_masked, painted
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.training.saved_run import load_run
from tf_mtl_privacy.types import Array

# A stream of no run, so that choices by these figures use no test rows.
STREAM, CLASSES, CHUNK = "residue", 8, 50
_SHARES = (50, 95, 100)


def with_each_class(stream: str, numbers: Array, size: int) -> tuple[Array, Array, Array]:
    """Returns faces of a stream with every iris class and nothing else changed.

    Returns:
        `[K, n, S, S, 3]` uint8, the faces with each class; `[n]` int32, their own class;
        `[n, S, S]` bool, True on the iris.
    """
    own = draw_labels(0, stream, numbers, 0, 0.0)
    drawn = [
        rendering.render_labelled(
            0, stream, numbers, own._replace(iris=np.full_like(own.iris, iris)), Style(size, "none")
        )
        for iris in range(CLASSES)
    ]
    return np.stack([faces.image for faces in drawn]), own.iris, drawn[0].iris_mask


def of_faces(pictures: Array, seen: Array, iris: Array) -> dict[str, Array]:
    """Returns the figures of each face, each `[n]` float64.

    Args:
        pictures: `[K, n, S, S, 3]` uint8, faces with each class.
        seen: `[K, n, S, S, 4]` float, the same faces behind the mask: colours in [0, 1], and 1 in
            the fourth channel where covered.
        iris: `[n, S, S]` bool, the true region.

    Returns:
        `picture_levels` and `seen_levels`, the largest difference between two classes in any pixel;
        `uncovered_pixels`, the number of uncovered iris pixels, averaged over classes;
        `flipped_pixels`, the number of pixels covered for some classes only; `flipped_energy`, the
        share of squared differences in those pixels and in pixels that are never covered.
    """
    levels = pictures.astype(np.float32)
    before, after = (np.ptp(part, axis=0) for part in (levels, 255.0 * seen[..., :3]))
    covered = seen[..., 3] > 0.5
    always, ever = covered.all(axis=0), covered.any(axis=0)
    squares = np.sum(after.astype(np.float64) ** 2, axis=-1)
    outside = np.sum(squares * ~always, axis=(1, 2))
    return {
        "picture_levels": before.max(axis=(1, 2, 3)).astype(np.float64),
        "seen_levels": after.max(axis=(1, 2, 3)).astype(np.float64),
        "uncovered_pixels": (iris & ~covered).sum(axis=(2, 3)).mean(axis=0),
        "flipped_pixels": (ever & ~always).sum(axis=(1, 2)).astype(np.float64),
        "flipped_energy": outside / np.maximum(squares.sum(axis=(1, 2)), 1e-12),
    }


def summary(figures: dict[str, Array]) -> dict[str, Any]:
    """Returns percentiles of the levels over faces, and means of the other figures."""
    levels = {
        name: {f"p{share}": float(np.percentile(figures[name], share)) for share in _SHARES}
        for name in ("picture_levels", "seen_levels")
    }
    return {
        "faces": len(figures["seen_levels"]),
        **levels,
        "uncovered_pixels": float(figures["uncovered_pixels"].mean()),
        "faces_with_flips": float((figures["flipped_pixels"] > 0).mean()),
        "flipped_energy": float(figures["flipped_energy"].mean()),
    }


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Compares the classes and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.mask_studies.mask_residue", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run_dir", required=True, help="a finished run with a mask")
    parser.add_argument("--faces", type=int, default=1_000, help="number of faces")
    parser.add_argument("--json", default="", help="output file for the figures")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if options.faces < 1:
        raise UsageError(f"--faces={options.faces}: expected 1 or more")
    run = load_run(options.run_dir)
    if run.config.data.effective_private_label != "iris" or not is_masked(run.bundle.encoder):
        raise UsageError(
            f"--run_dir={options.run_dir}: expected a run on drawn faces with --private_label=iris "
            "and --mask=learned"
        )
    figures = summary(
        measured(painted(run.bundle.encoder), options.faces, run.config.data.image_size)
    )
    print("\n".join(markdown_table(("quantity", "value"), _lines(figures))))
    if options.json:
        write_json(options.json, {"run_dir": options.run_dir, **figures})
    return 0


def measured(paint: Any, faces: int, size: int) -> dict[str, Array]:
    """Returns `of_faces` of that many faces; `paint` maps `[n, S, S, 3]` to `[n, S, S, 4]`."""
    parts = []
    for start in range(0, faces, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, faces))
        pictures, _, iris = with_each_class(STREAM, numbers, size)
        seen = np.stack([np.array(paint(np.float32(part) / 255.0)) for part in pictures])
        parts.append(of_faces(pictures, seen, iris))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _lines(figures: dict[str, Any]) -> list[list[str]]:
    def levels(name: str) -> str:
        return ", ".join(f"{figures[name][f'p{share}']:.1f}" for share in _SHARES)

    return [
        ["faces", f"{figures['faces']:,}"],
        ["difference in levels, picture (50, 95, 100 % of faces)", levels("picture_levels")],
        ["difference in levels, behind the mask", levels("seen_levels")],
        ["uncovered pixels of the iris, mean", f"{figures['uncovered_pixels']:.2f}"],
        ["faces whose covered cells depend on the class", f"{figures['faces_with_flips']:.1%}"],
        [
            "share of squared differences in such or uncovered pixels",
            f"{figures['flipped_energy']:.1%}",
        ],
    ]


if __name__ == "__main__":
    sys.exit(main())
