"""experiments/frontier: its points, numbers and plot, without training."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from experiments.frontier import __main__ as frontier
from experiments.frontier.plot import _groups, frontier_plot
from tests.fake_trainer import FakeTrainer
from tf_mtl_privacy.cli.flags import parse


def by_beta(config):
    beta = config.loss.beta
    high = 0.8 - 0.1 * beta
    changes = {"utility__gender__accuracy": 0.98 - 0.02 * beta}
    return {"features": high - 0.02, "high": high, **changes}


def test_frontier_writes_numbers_and_plot(tmp_path, capsys):
    folder = [f"--runs={tmp_path}"]
    trainer = FakeTrainer(by_beta, **{"paper-beta3-mask_none-seed0": [1]})
    assert frontier.main(folder, trainer) == 1
    # Five values of beta, two objectives, two masks; beta 0 is the same for both objectives.
    assert len(trainer.trained) == len(set(trainer.trained)) == 18
    for command in trainer.commands:
        config = parse("train", command[3:]).config
        loss = config.loss
        assert config.model.pixel_path == config.removal.has_mask == ("learned" in command[-2])
        assert loss.beta == loss.beta_late == loss.beta_max
    assert "not done: paper-beta3-mask_none" in capsys.readouterr().err
    path = tmp_path / "frontier.json"
    numbers = json.loads(path.read_text())
    assert path.stat().st_size <= 20_000 and numbers["chance"] == 0.125
    assert len(numbers["points"]) == 19
    one = {(p["objective"], p["mask"], p["beta"]): p for p in numbers["points"]}
    assert one["paper", True, 0.3]["probe"] == pytest.approx(0.75)
    assert one["paper", True, 0.3]["gender"] == pytest.approx(0.974)
    assert one["paper", True, 0] | {"objective": ""} == one["confusion", True, 0] | {
        "objective": ""
    }
    assert frontier.main([*folder, "--plot_only"]) == 1
    assert frontier.main([*folder, "--plot_only", "--betas=0,1"]) == 0
    assert len(json.loads(path.read_text())["points"]) == 8
    image = Image.open(tmp_path / "frontier.png")
    assert image.width >= 1200 and len(trainer.trained) == 18


def test_plot_shows_points_and_leaves_out_missing_figures():
    def point(beta, probe, mask=True, psnr_db=30.0):
        ends = None if probe is None else [probe - 0.02, probe + 0.02]
        return {
            "objective": "confusion",
            "mask": mask,
            "beta": beta,
            "gender": 0.97 - beta / 100,
            "psnr_db": psnr_db,
            "probe": probe,
            "ci95": ends,
        }

    def drawn(points, chance=0.125):
        return np.asarray(Image.open(io.BytesIO(frontier_plot(points, chance))).convert("RGB"), int)

    def blue(image):
        # Okabe and Ito's blue, 0072B2.
        return int((np.abs(image - [0, 0x72, 0xB2]).max(-1) < 8).sum())

    points = [point(0, 0.8), point(1, 0.3), point(0, 0.8, mask=False)]
    whole = drawn(points)
    assert blue(whole) > 200
    half = whole.shape[1] // 2
    # Without a PSNR or a probe a point is left out, of its panel only.
    no_psnr = drawn([{**p, "psnr_db": None} for p in points])
    assert blue(no_psnr[100:, :half]) > 100 > blue(no_psnr[100:, half:])
    assert blue(drawn([point(0, None)])[100:]) == 0
    assert drawn([], None).shape == whole.shape


def test_groups_of_close_points_share_a_label():
    places = [(98.5, 82.0), (98.4, 82.5), (98.3, 83.0), (97.0, 80.0), (96.99, 60.0)]
    assert _groups(places, near=0.3) == [(0, 2), (3, 3), (4, 4)]
    assert _groups([], near=0.3) == []


def test_masks_flag_selects_masks_and_refuses_unknown_ones(tmp_path, capsys):
    trainer = FakeTrainer(by_beta)
    only = [f"--runs={tmp_path}", "--masks=none", "--betas=0,1", "--objectives=paper"]
    assert frontier.main(only, trainer) == 0
    assert trainer.trained == ["beta0-mask_none-seed0", "paper-beta1-mask_none-seed0"]
    with pytest.raises(SystemExit) as ended:
        frontier.main(["--masks=all"])
    assert ended.value.code == 2 and "--masks=all: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--betas=-1", "--betas=-1: expected numbers >= 0, separated by commas"),
        ("--betas=0,nan", "--betas=0,nan: expected numbers >= 0"),
        ("--betas=x", "--betas=x: expected numbers >= 0"),
        ("--objectives=foo", "--objectives=foo: expected some of paper, paper_bounded, confusion"),
        ("--objectives=,", "--objectives=,: expected some of paper"),
        ("--base=nofile.cfg", "--base=nofile.cfg: --flagfile=nofile.cfg: no such file"),
    ],
)
def test_wrong_flags_are_refused_before_training(wrong, message, capsys):
    """Also with --plot_only, which would otherwise report the points as not trained."""
    for more in ([], ["--plot_only"]):
        with pytest.raises(SystemExit) as ended:
            frontier.main([wrong, *more], None)
        error = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 2 and message in error
