"""experiments/ablations: its rows, what is trained, and the printed table."""

import json
import shlex

import pytest

from experiments.ablations.__main__ import main
from experiments.ablations.rows import COMMON, DESCRIPTIONS, ROWS, row_flags
from tests.fake_trainer import FakeTrainer
from tf_mtl_privacy.cli.flags import parse


def test_every_row_has_a_description():
    assert list(DESCRIPTIONS) and set(DESCRIPTIONS) == set(ROWS)


def test_rows_parse_to_distinct_configurations():
    configs = {}
    for name in ROWS:
        flags = ["--flagfile=synthetic_small.cfg", *row_flags(name)]
        configs[name] = parse("train", flags).config
    assert len({repr(config) for config in configs.values()}) == len(ROWS)
    for name, config in configs.items():
        learned = config.removal.mask == "learned"
        assert learned == name.startswith("mask")
        assert (config.removal.feature_noise == 1) == name.startswith("noise")
        assert (config.removal.erasure == "leace") == name.startswith("leace")
        assert config.model.pixel_path == ("pixel_path" in name)
        no_game = name in ("mask", "mask_pixel_path", "noise", "leace", "plain_reader")
        assert (config.loss.beta == config.loss.beta_max == 0) == no_game
        assert config.train.is_private != name.startswith("plain")
        reads = "reader" in name and not name.endswith("unwhitened")
        assert config.model.discriminator_whitening == reads
    assert configs["nothing"].train.is_adversarial is False
    # COMMON overrides the base where a row changes nothing.
    base = ["--mask=learned", "--pixel_path", "--discriminators=3"]
    on_base = parse("train", [*base, *row_flags("noise")]).config
    assert on_base.removal.mask == "none" and on_base.game.discriminators == 1


def probe_by_mask(config):
    masked = config.removal_in_force.has_mask
    reads = [] if masked else ["gates read labels", "the objective reads labels"]
    return {
        "features": (0.14 if masked else 0.8) + 0.01 * config.train.seed,
        "high": (0.16 if masked else 0.82) + 0.01 * config.train.seed,
        "dp__unaccounted_label_access": reads[: 1 + config.train.is_adversarial],
    }


def test_ablations_print_figures_worked_by_hand(tmp_path, capsys):
    trainer = FakeTrainer(probe_by_mask, **{"noise-seed0": [1], "noise-seed1": [1]})
    own = ["--only=nothing,mask,noise", "--seeds=2", f"--runs={tmp_path}"]
    own.append(f"--json={tmp_path}/a.json")
    assert main([*own, "--", "--train_rows=300"], trainer) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    by_row = {line.split(" | ")[0][2:]: line.strip("| ").split(" | ") for line in lines}
    header = by_row["row"]
    nothing = dict(zip(header, by_row["nothing"], strict=True))
    assert nothing["flags"] == "`--model=mtl_dp`"
    # 80 and 81 %, upper ends 82 and 83 %.
    assert nothing["probe, features"] == "80.5 % (80.0–81.0 %), up to 83.0 %"
    assert nothing["gender"] == "97.0 % (97.0–97.0 %)" and nothing["PSNR"].startswith("30.0 dB")
    assert nothing["regions"] == "not measured" and nothing["time"].startswith("100 s")
    assert nothing["label access"] == "(1)" and "- (1) gates read labels" in lines
    mask = dict(zip(header, by_row["mask"], strict=True))
    assert mask["probe, features"] == "14.5 % (14.0–15.0 %), up to 17.0 %"
    assert mask["label access"] == "empty"
    assert by_row["noise"][2] == "not trained"
    command = lines[0][lines[0].index("`") + 1 : lines[0].rindex("`")]
    assert " ".join(COMMON) in command and "--train_rows=300" in command
    whole = command.replace("FLAGS", " ".join(ROWS["mask"])).replace("RUN", str(tmp_path / "x"))
    parsed = parse("train", shlex.split(whole)[3:]).config
    assert parsed == parse("train", trainer.commands[1][3:]).config
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["mask"]["figures"]["probe_features"]["values"] == pytest.approx([0.14, 0.15])
    # Nothing is trained twice, and nothing at all with --table_only.
    before = len(trainer.trained)
    assert main([*own, "--table_only", "--", "--train_rows=300"], trainer) == 0
    assert len(trainer.trained) == before


def test_ablations_mark_weak_attackers_and_refuse_wrong_flags(tmp_path, capsys):
    trainer = FakeTrainer(lambda config: {"privacy__probe__underpowered": True})
    assert main(["--only=mask_game", f"--runs={tmp_path}"], trainer) == 0
    assert "50.0 %, up to 55.0 % !" in capsys.readouterr().out
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)
    for wrong, message in (
        ("--only=mask,nonsense", "--only=nonsense: expected some of nothing"),
        ("--seeds=0", "--seeds=0: expected at least 1"),
        ("--base=nofile.cfg", "--base=nofile.cfg: --flagfile=nofile.cfg: no such file"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([wrong, "--table_only"])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
