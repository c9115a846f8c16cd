"""Draws the picture of the README from a finished run on drawn faces.

    python -m experiments.readme_picture --run_dir=RUN [--output=docs/demo.png]

Left: drawn test faces, the same faces as the encoder sees them, and as the restorer returns them.
Right: the accuracy of fresh attackers on the private label, from the results.json of the run.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.runs import one_line_errors, say
from tf_mtl_privacy.config import RESULTS_FILE
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.reporting.formats import at_most, percent
from tf_mtl_privacy.reporting.run_figures import read_results
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.region_maps import region_source, seen_pictures
from tf_mtl_privacy.training.saved_run import SavedRun, load_run

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
FACES, DPI = 6, 100
# In pixels of the picture.
WIDTH, HEIGHT = 1000, 300
_LEFT, _FACE, _PITCH = 72, 92, 96
ROWS = ("original", "masked", "restored")
# Colours of Okabe and Ito, safe for colour-blind readers.
_OPEN, _REMOVED = "#D55E00", "#0072B2"


class Bar(NamedTuple):
    """One reading of the private label.

    Attributes:
        label: what the attacker reads.
        accuracy: its accuracy in [0, 1].
        upper: upper end of the 95 % interval, in [0, 1].
        removed: True if the mask hides the label from the attacker.
    """

    label: str
    accuracy: float
    upper: float
    removed: bool


def bars(results: Mapping[str, Any]) -> list[Bar]:
    """Returns the four readings of a results.json.

    Figures of pixels, features and restored images come from `privacy.leakage`: the strongest
    attacker. The reading with the mask off is the check before the joint phase: the balanced
    accuracy of the stronger of two attackers on validation rows.

    Raises:
        UsageError: a figure is missing.
    """
    try:
        leakage = results["privacy"]["leakage"]
        before = results["training"]["before_game"]
        found = [
            Bar("pixels", *_figures(leakage["pixels"]), removed=False),
            Bar(
                "features,\nmask off",
                before["fresh_probe_balanced_accuracy"],
                before["fresh_probe_upper"],
                removed=False,
            ),
            Bar("features", *_figures(leakage["features"]), removed=True),
            Bar("restored\nimages", *_figures(leakage["restored"]), removed=True),
        ]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{RESULTS_FILE}: no {error}; run evaluate with --probe=fast") from error
    if any(None in bar for bar in found):
        raise UsageError(f"{RESULTS_FILE}: a target was not attacked; run evaluate --probe=fast")
    return found


def shown(bar: Bar) -> str:
    """Returns `12.9 % (14.5)`, the upper end rounded up as in tables of results."""
    return f"{percent(bar.accuracy)} ({at_most(bar.upper).removesuffix(' %')})"


def versions(run: SavedRun) -> list[Array]:
    """Returns the first test faces, original, masked and restored, each `[6, S, S, 3]` uint8.

    Raises:
        UsageError: the pictures are not drawn, or the run has no mask or no restorer.
    """
    if run.config.data.dataset != "synthetic_faces":
        raise UsageError(f"--run_dir={run.run_dir}: expected a run on drawn faces")
    if run.bundle.restorer is None or region_source(run.bundle) != "mask":
        raise UsageError(f"--run_dir={run.run_dir}: expected a run with a mask and a restorer")
    dataset = open_dataset(run.config.data)
    faces = dataset.store.images(dataset.rows["test"][:FACES])
    restored = predict_images(run.bundle, faces, restore=True).restored
    return [faces, seen_pictures(run.bundle.encoder, faces), np.asarray(restored)]


def picture(faces: Sequence[Array], readings: Sequence[Bar], chance: float) -> bytes:
    """Returns the PNG, 1,000 pixels wide on opaque white.

    Args:
        faces: `versions(...)`, in the order of `ROWS`.
        readings: bars from top to bottom.
        chance: accuracy of a random guess, in [0, 1].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for line, (name, version) in enumerate(zip(ROWS, faces, strict=True)):
        bottom = HEIGHT - (line + 1) * _PITCH
        figure.text(
            (_LEFT - 8) / WIDTH,
            (bottom + _FACE / 2) / HEIGHT,
            name,
            ha="right",
            va="center",
            fontsize=10,
        )
        for column, face in enumerate(version):
            axes = _panel(figure, _LEFT + column * _PITCH, bottom, _FACE, _FACE)
            axes.imshow(face, interpolation="nearest")
            axes.set_axis_off()
    axes = _panel(figure, 745, 62, 240, 190)
    places = range(len(readings))
    rates = [100 * bar.accuracy for bar in readings]
    over = [100 * (bar.upper - bar.accuracy) for bar in readings]
    axes.barh(
        places,
        rates,
        color=[_REMOVED if bar.removed else _OPEN for bar in readings],
        height=0.62,
        xerr=[[0.0] * len(over), over],
        error_kw={"capsize": 3, "linewidth": 1.2},
    )
    for place, bar in zip(places, readings, strict=True):
        inside = bar.accuracy > 0.6
        axes.text(
            100 * (bar.accuracy - 0.02 if inside else bar.upper + 0.03),
            place,
            shown(bar),
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else "black",
            fontsize=9,
        )
    axes.axvline(100 * chance, color="black", linestyle=":", linewidth=1.4)
    axes.text(100 * chance + 1, -0.62, f"chance {100 * chance:.1f} %", fontsize=9, va="bottom")
    axes.set_yticks(places, [bar.label for bar in readings], fontsize=9)
    axes.set_ylim(len(readings) - 0.5, -0.6)
    axes.set_xlim(0, 104)
    axes.set_xlabel("accuracy in %\n(upper end of the 95 % interval)", fontsize=9)
    figure.text(0.82, 0.93, "Private label, read by fresh attackers", ha="center", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return _opaque(buffer.getvalue())


def _panel(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Adds axes at a place in pixels."""
    return figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))


def _figures(entry: Mapping[str, Any]) -> tuple[float, float]:
    return entry["accuracy"], entry["upper"]


def _opaque(png: bytes) -> bytes:
    """Returns the PNG without its alpha channel, in a palette of 256 colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Draws the picture of a run and writes it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.readme_picture", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run_dir", required=True, help="a finished run with a mask")
    parser.add_argument("--output", default=str(ROOT / "docs" / "demo.png"), help="the PNG")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    run = load_run(options.run_dir)
    readings = bars(read_results(run.run_dir / RESULTS_FILE))
    png = picture(versions(run), readings, 1 / len(run.private_classes))
    write_atomic(Path(options.output), png)
    say(f"wrote {options.output} ({len(png):,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
