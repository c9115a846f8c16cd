"""experiments/mask_studies/mask_fills.py: covered pictures, streams of faces, printed table."""

import json

import numpy as np
import pytest

from experiments.mask_studies import mask_fills
from tf_mtl_privacy.data.synthetic_faces.rendering import render
from tf_mtl_privacy.evaluation.probes.attack import Reading

AXIS = np.array([1.0, -1.0, 0.0], np.float32) / np.float32(np.sqrt(2))


@pytest.fixture(scope="module")
def faces():
    return render(0, "test", np.arange(6))


def test_painted_matches_values_worked_by_hand(faces):
    image, region = np.float32(faces.image) / 255.0, faces.iris_mask[..., np.newaxis]
    bare, psnr = mask_fills.painted(faces, "none", AXIS, 0)
    np.testing.assert_array_equal(bare[..., :3], image)
    assert psnr == pytest.approx(100.0) and not bare[..., 3].any()
    grey, psnr = mask_fills.painted(faces, "grey", AXIS, 0)
    np.testing.assert_array_equal(grey[..., 3:] > 0, region)
    np.testing.assert_array_equal(grey[..., :3], np.where(region, np.float32(0.5), image))
    error = np.mean((grey[..., :3] - image) ** 2, axis=(1, 2, 3))
    assert psnr == pytest.approx(np.mean(-10 * np.log10(error)), rel=1e-5)
    colour, better = mask_fills.painted(faces, "colour", AXIS, 0)
    # Red and green become equal there, by as much as keeps their sum.
    inside = colour[..., :3][region[..., 0]]
    np.testing.assert_allclose(inside[:, 0], inside[:, 1], atol=1e-6)
    np.testing.assert_allclose(inside.sum(1), image[region[..., 0]].sum(1), atol=1e-5)
    assert better > psnr
    wide, _ = mask_fills.painted(faces, "grey", AXIS, 2)
    assert wide[..., 3].sum() > grey[..., 3].sum()


def test_ceiling_is_above_a_grey_fill(faces):
    assert mask_fills.ceiling(6) > mask_fills.painted(faces, "grey", AXIS, 0)[1] + 5


def test_main_draws_no_test_rows_of_runs(monkeypatch):
    """Fills are compared to choose one; test rows of runs are for reporting only."""
    drawn = []

    def watched(name):
        draw = getattr(mask_fills.rendering, name)

        def call(seed, stream, *arguments, **options):
            drawn.append((name, stream))
            return draw(seed, stream, *arguments, **options)

        monkeypatch.setattr(mask_fills.rendering, name, call)

    for name in ("render", "render_labelled"):
        watched(name)
    reading = Reading("softmax_pool_cnn_standardised", 0.5, {"accuracy": 0.5, "ci95": [0.4, 0.6]})
    monkeypatch.setattr(mask_fills, "attack", lambda *arguments: [reading])
    monkeypatch.setattr(mask_fills, "_VALIDATION", 4)
    few = ["--rows=4", "--tests=6", "--public=64", "--ceiling=3", "--fills=grey"]
    assert mask_fills.main(few) == 0
    streams = {stream for _, stream in drawn}
    assert streams == {"attacker", "backbone", mask_fills.TESTED}
    assert not streams & {"train", "validation", "test"}
    assert ("render_labelled", mask_fills.TESTED) in drawn


def test_main_on_few_faces_prints_every_fill(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mask_fills, "_VALIDATION", 40)
    path = tmp_path / "fills.json"
    small = ["--rows=120", "--tests=40", "--epochs=1", "--width=4", "--public=400", "--ceiling=8"]
    assert mask_fills.main([*small, "--fills=grey,colour", f"--json={path}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in printed[2:]] == [
        "| grey",
        "| colour",
        "| all but the class",
    ]
    found = json.loads(path.read_text())
    assert set(found["fills"]) == {"grey", "colour"}
    assert np.linalg.norm(found["axis"]) == pytest.approx(1.0, abs=1e-5)


def test_fills_flag_with_an_unknown_fill_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        mask_fills.main(["--fills=black"])
    assert stop.value.code == 2 and "--fills=black" in capsys.readouterr().err
