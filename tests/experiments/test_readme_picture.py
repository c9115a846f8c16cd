"""experiments/readme_picture: its figures, its PNG and the committed picture."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from experiments.readme_picture import __main__ as readme_picture
from experiments.readme_picture.__main__ import Bar, bars, main, picture, shown

DOCS = readme_picture.ROOT / "docs"


def results():
    def entry(accuracy, upper):
        return {"accuracy": accuracy, "upper": upper}

    leakage = {
        "pixels": entry(0.99, 1.0),
        "features": entry(0.13, 0.15),
        "restored": entry(0.14, 0.16),
    }
    before = {"fresh_probe_balanced_accuracy": 0.97, "fresh_probe_upper": 0.98}
    return {"privacy": {"leakage": leakage}, "training": {"before_game": before}}


def test_bars_take_the_strongest_readings_in_order():
    found = bars(results())
    assert [bar[1:] for bar in found] == [
        (0.99, 1.0, False),
        (0.97, 0.98, False),
        (0.13, 0.15, True),
        (0.14, 0.16, True),
    ]
    assert "pixels" in found[0].label and "mask off" in found[1].label


def test_shown_rounds_the_upper_end_up():
    assert shown(Bar("features", 0.1365, 0.15903, True)) == "13.7 % (16.0)"


@pytest.mark.parametrize("missing", ["pixels", "features", "restored"])
def test_bars_without_a_reading_are_refused(missing):
    without = results()
    without["privacy"]["leakage"][missing] = {"accuracy": None, "upper": None}
    with pytest.raises(readme_picture.UsageError, match="was not attacked"):
        bars(without)
    del without["privacy"]["leakage"][missing]
    with pytest.raises(readme_picture.UsageError, match=f"no '{missing}'"):
        bars(without)


def checked(png):
    """Opens a picture of the README and asserts its size, opacity and white corners."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG" and len(png) <= 200_000
    assert 950 <= image.width <= 1050 and "transparency" not in image.info
    assert round(image.info["dpi"][0]) == 100
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    return pixels


def test_picture_shows_every_face_and_longer_bars_for_higher_readings():
    # Green faces, and bars in two colours that appear nowhere else.
    face = np.zeros((6, 64, 64, 3), np.uint8)
    face[..., 1] = 200
    pixels = checked(picture([face] * 3, bars(results()), 0.125)).astype(int)
    green = (abs(pixels - [0, 200, 0]) < 12).all(axis=-1).sum()
    assert green == pytest.approx(3 * 6 * 92 * 92, rel=0.05)

    def area(colour):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return (abs(pixels - wanted) < 12).all(axis=-1).sum()

    # 0.99 + 0.97 against 0.13 + 0.14; figures are written over the long bars.
    assert area(readme_picture._OPEN) > 4 * area(readme_picture._REMOVED) > 0


def test_picture_marks_a_shorter_bar_for_a_lower_reading():
    face = np.full((6, 64, 64, 3), 128, np.uint8)
    low, high = (
        picture([face] * 3, [Bar("pixels", value, value, False)], 0.125) for value in (0.2, 0.5)
    )
    wanted = [int(readme_picture._OPEN[i : i + 2], 16) for i in (1, 3, 5)]
    areas = [
        (abs(checked(png).astype(int) - wanted) < 12).all(axis=-1).sum() for png in (low, high)
    ]
    assert areas[1] == pytest.approx(2.5 * areas[0], rel=0.1)


def test_committed_picture_is_opaque_and_small_and_in_the_readme():
    checked((DOCS / "demo.png").read_bytes())
    text = (readme_picture.ROOT / "README.md").read_text(encoding="utf-8")
    found = bars(json.loads((DOCS / "results" / "demo.json").read_text(encoding="utf-8")))
    assert "(docs/demo.png)" in text
    for bar in found[2:]:
        assert f"| {shown(bar)} |" in text, "the demo's row, as the picture shows it"


def test_main_without_a_run_prints_one_line(tmp_path, capsys):
    assert main([f"--run_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
