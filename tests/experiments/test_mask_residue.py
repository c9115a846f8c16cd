"""experiments/mask_studies/mask_residue.py: its faces, figures and refusals."""

import json
import types

import numpy as np
import pytest

from experiments.mask_studies import mask_residue
from tf_mtl_privacy.data.synthetic_faces.rendering import render


def test_with_each_class_changes_the_iris_only():
    pictures, classes, iris = mask_residue.with_each_class(mask_residue.STREAM, np.arange(5), 32)
    assert pictures.shape == (8, 5, 32, 32, 3) and iris.shape == (5, 32, 32)
    outside = pictures * ~iris[np.newaxis, ..., np.newaxis]
    np.testing.assert_array_equal(outside, np.broadcast_to(outside[:1], outside.shape))
    own = render(0, mask_residue.STREAM, np.arange(5), size=32)
    np.testing.assert_array_equal(pictures[own.iris, np.arange(5)], own.image)
    np.testing.assert_array_equal(classes, own.iris)


def test_of_faces_matches_values_worked_by_hand():
    pictures = np.zeros((2, 1, 4, 4, 3), np.uint8)
    pictures[1, 0, 1, 1, 0] = 40  # covered for both classes
    pictures[1, 0, 2, 2, 1] = 30  # covered for the first only
    seen = np.zeros((2, 1, 4, 4, 4))
    seen[..., :3] = pictures / 255.0
    seen[:, 0, 1, 1, 3] = 1.0
    seen[1, 0, 1, 1, 0] = 4 / 255.0
    seen[0, 0, 2, 2, 3] = 1.0
    iris = np.zeros((1, 4, 4), bool)
    iris[0, 1, 1] = iris[0, 2, 2] = iris[0, 3, 3] = True
    found = mask_residue.of_faces(pictures, seen, iris)
    assert found["picture_levels"] == [40.0]
    assert found["seen_levels"] == pytest.approx([30.0])
    # One pixel is never covered, one for half of the classes.
    assert found["uncovered_pixels"] == [1.5] and found["flipped_pixels"] == [1.0]
    assert found["flipped_energy"] == pytest.approx([900 / 916], rel=1e-4)
    whole = mask_residue.summary(found)
    assert whole["seen_levels"]["p50"] == pytest.approx(30.0) and whole["faces_with_flips"] == 1.0


def test_main_with_a_perfect_mask_finds_no_difference(monkeypatch, tmp_path, capsys):
    run = types.SimpleNamespace(
        config=types.SimpleNamespace(
            data=types.SimpleNamespace(effective_private_label="iris", image_size=32)
        ),
        bundle=types.SimpleNamespace(encoder=None),
    )
    monkeypatch.setattr(mask_residue, "load_run", lambda folder: run)
    monkeypatch.setattr(mask_residue, "is_masked", lambda encoder: True)
    grey = np.full((32, 32, 4), 0.5)
    grey[..., 3] = 1.0
    monkeypatch.setattr(
        mask_residue,
        "painted",
        lambda encoder: lambda rows: np.broadcast_to(grey, (len(rows), 32, 32, 4)),
    )
    path = tmp_path / "found.json"
    assert mask_residue.main(["--run_dir=run", "--faces=3", f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    assert found["faces"] == 3 and found["seen_levels"]["p100"] == 0.0
    assert found["picture_levels"]["p50"] > 20 and found["uncovered_pixels"] == 0.0
    assert "behind the mask | 0.0, 0.0, 0.0" in capsys.readouterr().out
    monkeypatch.setattr(mask_residue, "is_masked", lambda encoder: False)
    assert mask_residue.main(["--run_dir=run"]) == 2
    assert "error: --run_dir=run: expected a run on drawn faces" in capsys.readouterr().err


def test_main_with_wrong_flags_prints_one_line(tmp_path, capsys):
    assert mask_residue.main([f"--run_dir={tmp_path / 'none'}"]) == 2
    assert mask_residue.main(["--run_dir=run", "--faces=0"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: ") == 2 and "--faces=0: expected 1 or more" in errors
