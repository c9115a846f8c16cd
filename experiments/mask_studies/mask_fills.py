"""Leakage and picture quality of each mask fill, with the true iris region covered.

    python -m experiments.mask_studies.mask_fills [--rows=10000] [--tests=2000] [--epochs=6]
        [--width=16] [--fills=none,grey,mean,colour] [--margin=2] [--json=FILE]

No encoder is trained. The covered region is the true iris, grown by --margin pixels, so the table
measures the fill alone. A fresh attacker reads the covered pictures; PSNR is measured on them,
before any restorer. Attackers are tested on faces of a stream that no run uses. The last line is
the PSNR of a restorer that knows everything about a picture except its iris class.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from experiments.mask_studies.mask_residue import CLASSES, with_each_class
from experiments.runs import names, say
from tf_mtl_privacy.data.synthetic_faces import rendering
from tf_mtl_privacy.evaluation.probes.attack import attack
from tf_mtl_privacy.evaluation.probes.budget import FAST
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.models.losses import psnr
from tf_mtl_privacy.removal.mask import Cover, WithoutAxis
from tf_mtl_privacy.removal.mask_training import colour_axis
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.types import Array

SIZE, CHUNK = 64, 1000
FILLS = ("none", "grey", "mean", "colour")
# A stream of no run, so that choosing a fill by these figures uses no test rows.
TESTED = "fills"
_PUBLIC, _VALIDATION, _CEILING = 24_000, 1_000, 500
_ATTACKER = "softmax_pool_cnn_standardised"


def public_axis(faces: int) -> Array:
    """Returns the colour axis of the label, from faces that no run uses."""

    def batches() -> Iterator[tuple[Array, Array]]:
        for start in range(0, faces, CHUNK):
            drawn = rendering.render(0, "backbone", np.arange(start, min(start + CHUNK, faces)))
            yield drawn.image, drawn.iris

    return colour_axis(batches(), CLASSES)


def painted(faces: rendering.Faces, fill: str, axis: Array, margin: int) -> tuple[Array, float]:
    """Returns `[n, S, S, 4]` pictures as an encoder behind the mask sees them, and PSNR in dB."""
    square = np.ones((1, 2 * margin + 1, 2 * margin + 1), bool)
    region = ndimage.binary_dilation(faces.iris_mask, square)[..., np.newaxis]
    cells = np.float32(region & (fill != "none"))
    without = WithoutAxis()
    without.build((None, SIZE, SIZE, 3))
    without.axis.assign(axis)
    cover = Cover(1, "grey" if fill == "none" else fill)
    parts = []
    for start in range(0, len(cells), CHUNK):
        some = slice(start, start + CHUNK)
        picture = np.float32(faces.image[some]) / 255.0
        parts.append(np.array(cover([picture, cells[some], without(picture)])))
    seen = np.concatenate(parts)
    return seen, mean_psnr(seen[..., :3], np.float32(faces.image) / 255.0)


def mean_psnr(pictures: Array, image: Array) -> float:
    """Returns the mean PSNR over pictures, in dB."""
    return float(np.mean(psnr(pictures, image)))


def ceiling(faces: int) -> float:
    """Returns the PSNR in dB of the mean over all iris classes of otherwise equal faces."""
    numbers = np.arange(faces)
    drawn, classes, _ = with_each_class(TESTED, numbers, SIZE)
    pictures = np.float32(drawn) / 255.0
    return mean_psnr(np.mean(pictures, axis=0), pictures[classes, numbers])


def main(argv: Sequence[str] | None = None) -> int:
    """Attacks each fill and prints the table."""
    options = _options(sys.argv[1:] if argv is None else list(argv))
    budget = dataclasses.replace(FAST, epochs=options.epochs, width=options.width, min_updates=0)
    learned = rendering.render(0, "attacker", np.arange(options.rows + _VALIDATION))
    tested = rendering.render(0, TESTED, np.arange(options.tests))
    axis = public_axis(options.public)
    say(f"colour axis (red green blue): {' '.join(f'{value:.3f}' for value in axis)}")
    rows, results = [], {}
    for fill in options.fills:
        seen, _ = painted(learned, fill, axis, options.margin)
        test, quality = painted(tested, fill, axis, options.margin)
        cut = options.rows
        data = ProbeData(
            seen[:cut], learned.iris[:cut], seen[cut:], learned.iris[cut:], test, tested.iris, 8
        )
        (reading,) = attack(data, (_ATTACKER,), attackers(), budget, 0)
        low, high = reading.test["ci95"]
        accuracy = reading.test["accuracy"]
        results[fill] = {"psnr_db": quality, "accuracy": accuracy, "ci95": [low, high]}
        rows.append(
            [fill, f"{quality:.1f} dB", f"{accuracy:.1%} ({100 * low:.1f}–{100 * high:.1f} %)"]
        )
        say(f"{fill}: {rows[-1][1]}, {rows[-1][2]}")
    best_psnr = ceiling(options.ceiling)
    rows.append(["all but the class", f"{best_psnr:.1f} dB", ""])
    print("\n".join(markdown_table(["fill", "PSNR", "fresh attacker"], rows)))
    if options.json:
        write_json(
            options.json, {"fills": results, "ceiling_psnr_db": best_psnr, "axis": axis.tolist()}
        )
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.mask_studies.mask_fills", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=10_000, help="training faces of the attackers")
    parser.add_argument("--tests", type=int, default=2_000, help="test faces")
    parser.add_argument("--epochs", type=int, default=6, help="training epochs of the attackers")
    parser.add_argument("--width", type=int, default=16, help="channels of the attackers")
    parser.add_argument("--margin", type=int, default=2, help="pixels around the true region")
    parser.add_argument(
        "--public", type=int, default=_PUBLIC, help="faces to estimate the colour axis from"
    )
    parser.add_argument("--ceiling", type=int, default=_CEILING, help="faces for the last line")
    parser.add_argument("--fills", default=",".join(FILLS), help="separated by commas")
    parser.add_argument("--json", default="", help="output file for the figures")
    options = parser.parse_args(argv)
    options.fills = names(parser, "fills", options.fills, FILLS)
    return options


if __name__ == "__main__":
    sys.exit(main())
