"""Real photographs through the command line, from their files to attributes and restored images."""

import csv
import json

import pytest
from PIL import Image

from tests.photographs import build


@pytest.mark.slow
def test_photographs_from_files_to_predictions(loaded, tmp_path, cache_dir):
    photos, run_dir = tmp_path / "photos", tmp_path / "run"
    assert build(photos) == 573
    flags = ("--flagfile=photographs.cfg", f"--data_dir={photos}", f"--cache_dir={cache_dir}")

    done = loaded("tf_mtl_privacy.prepare", *flags)
    assert done.returncode == 0, done.stderr
    assert "573" in done.stdout

    shorter = (
        "--discriminator_epochs=2",
        "--restorer_epochs=8",
        "--adversarial_epochs=5",
        "--probe=none",
    )
    done = loaded("tf_mtl_privacy.train", *flags, *shorter, f"--run_dir={run_dir}", timeout=900)
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "results.json").read_text())
    gender = results["utility"]["gender"]
    # Always guessing "man" is right on 80 % of the rows, 50 % balanced.
    assert gender["balanced_accuracy"] >= 0.75
    assert gender["accuracy"] > gender["majority"]
    restoration = results["restoration"]
    assert restoration["psnr_db"] > restoration["mean_image_psnr_db"] + 3
    assert results["privacy"]["chance"] == pytest.approx(1 / 70)
    assert results["counts"]["rows"]["test"] == gender["n"] >= 70, "every person is tested"
    assert not (run_dir / "restored.png").exists(), "no pictures of real people unasked"

    first = json.loads((run_dir / "results.json").read_text())["utility"]
    done = loaded("tf_mtl_privacy.evaluate", f"--run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    assert json.loads((run_dir / "results.json").read_text())["utility"] == first

    table, restored = tmp_path / "out.csv", tmp_path / "restored"
    inputs = [photos / "img_align_celeba" / f"{n:06d}.jpg" for n in (1, 100, 500)]
    done = loaded(
        "tf_mtl_privacy.predict",
        f"--run_dir={run_dir}",
        f"--output={table}",
        f"--restored_dir={restored}",
        *inputs,
    )
    assert done.returncode == 0, done.stderr
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    pictures = sorted(restored.iterdir())
    assert len(pictures) == 3
    with Image.open(pictures[0]) as picture:
        assert picture.size == (64, 64)
