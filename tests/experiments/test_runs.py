"""The experiments of experiments/: what they train and skip, and what they print."""

import json
import os
import shlex
import signal
import sys
import threading
import time

import pytest

from experiments import runs as shared
from experiments.ablations import __main__ as ablations
from experiments.ablations.rows import COMMON, ROWS, row_flags
from experiments.model_table import __main__ as model_table
from experiments.runs import Run, finished, train_all
from tests.fake_trainer import FakeTrainer
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.flags import parse


def runs_in(folder, *names):
    flags = ("--flagfile=synthetic_small.cfg", "--alpha=0.3")
    return [Run(name, folder / name, flags) for name in names]


def test_finished_runs_are_skipped_and_the_order_is_kept(tmp_path):
    trainer, runs = FakeTrainer(), runs_in(tmp_path, "a", "b", "c")
    assert train_all(runs[1:2], trainer) == {}
    assert train_all(runs, trainer) == {} and trainer.trained == ["b", "a", "c"]
    assert train_all(runs, trainer) == {} and len(trainer.trained) == 3
    assert list(finished(runs)) == ["a", "b", "c"]
    assert trainer.commands[0][1:] == [
        "-m",
        "tf_mtl_privacy.train",
        "--flagfile=synthetic_small.cfg",
        "--alpha=0.3",
        f"--run_dir={tmp_path}/b",
        "--probe=fast",
    ]


def test_a_failed_run_keeps_none_from_being_trained_and_is_tried_again(tmp_path):
    trainer, runs = FakeTrainer(b=[1]), runs_in(tmp_path, "a", "b", "c")
    assert train_all(runs, trainer) == {"b": "train ended with 1"}
    assert list(finished(runs)) == ["a", "c"]
    assert train_all(runs, trainer) == {} and trainer.trained == ["a", "b", "c", "b"]


@pytest.mark.parametrize("code", [130, -2])
def test_an_interrupted_run_ends_the_list_and_goes_on(tmp_path, code):
    trainer, runs = FakeTrainer(b=[code]), runs_in(tmp_path, "a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        train_all(runs, trainer)
    assert trainer.trained == ["a", "b"]
    assert train_all(runs, trainer) == {} and trainer.trained == ["a", "b", "b", "c"]


def test_a_stop_of_the_list_reaches_the_run(tmp_path):
    ready = tmp_path / "ready"
    child = (
        "import pathlib, signal, sys, time; "
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )

    def stop():
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop)
    thread.start()
    # It ends by itself, with what it has to save, and the list knows that it was stopped.
    assert shared._process([sys.executable, "-c", child]) == shared.INTERRUPTED
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_without_attackers_is_not_finished(tmp_path):
    (run,) = runs_in(tmp_path, "a")
    trainer = FakeTrainer()
    trainer([*run.command[:-1], "--probe=none"])
    assert run.results() is None and train_all([run], trainer) == {}
    assert run.results()["privacy"]["probe"] is not None


def test_a_run_of_another_configuration_is_not_taken_for_this_one(tmp_path):
    (run,) = runs_in(tmp_path, "a")
    trainer = FakeTrainer()
    train_all([run], trainer)
    other = Run("a", run.folder, (*run.flags, "--gamma=0.7"))
    failed = train_all([other], trainer)
    assert "--gamma=0.3, not 0.7" in failed["a"] and len(trainer.trained) == 1
    assert finished([other]) == {}
    moved = Run("a", run.folder, (*run.flags, f"--cache_dir={tmp_path}"))
    assert list(finished([moved])) == ["a"]
    # Options that came after the run was made have their defaults.
    saved = json.loads((run.folder / "results.json").read_text())
    del saved["config"]["game"], saved["config"]["train"]["stop_psnr"]
    write_json(run.folder / "results.json", saved)
    assert list(finished([run])) == ["a"]


def test_wrong_flags_fail_one_run_only(tmp_path):
    (good,) = runs_in(tmp_path, "good")
    bad = Run("bad", tmp_path / "bad", ("--objective=nonsense",))
    trainer = FakeTrainer()
    failed = train_all([bad, good], trainer)
    assert "nonsense" in failed["bad"] and trainer.trained == ["good"]


def test_the_table_of_models_trains_what_is_missing_and_prints(tmp_path, capsys):
    arguments = [f"--runs={tmp_path}", "--seeds=2", "--", "--train_rows=300"]
    trainer = FakeTrainer(**{"mtl_dp-seed1": [1]})
    assert model_table.main(arguments, trainer) == 1
    shown = capsys.readouterr()
    assert "not done: mtl_dp-seed1" in shown.err and "Missing" in shown.out
    assert model_table.main(arguments, trainer) == 0
    assert "Missing" not in capsys.readouterr().out
    models = ("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp", "dp_scope_all")
    expected = [f"{model}-seed{seed}" for seed in (0, 1) for model in models]
    expected.insert(4, "backbone")
    assert trainer.trained == [*expected, "mtl_dp-seed1"]
    assert all(parse("train", c[3:]).config.data.train_rows == 300 for c in trainer.commands)
    stopped = FakeTrainer(**{"stl-seed2": [130]})
    assert model_table.main([f"--runs={tmp_path}", "--seeds=3", *arguments[2:]], stopped) == 130


def test_every_row_of_the_ablations_is_a_run_of_its_own():
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
    # What a row does not change is as COMMON says, whatever the base.
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


def test_the_ablations_by_hand(tmp_path, capsys):
    trainer = FakeTrainer(probe_by_mask, **{"noise-seed0": [1], "noise-seed1": [1]})
    own = ["--only=nothing,mask,noise", "--seeds=2", f"--runs={tmp_path}"]
    own.append(f"--json={tmp_path}/a.json")
    assert ablations.main([*own, "--", "--train_rows=300"], trainer) == 1
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
    # Nothing is trained twice, or at all where only the table is wanted.
    before = len(trainer.trained)
    assert ablations.main([*own, "--table_only", "--", "--train_rows=300"], trainer) == 0
    assert len(trainer.trained) == before


def test_weak_attackers_are_marked_and_rows_are_checked(tmp_path, capsys):
    trainer = FakeTrainer(lambda config: {"privacy__probe__underpowered": True})
    assert ablations.main(["--only=mask_game", f"--runs={tmp_path}"], trainer) == 0
    assert "50.0 %, up to 55.0 % !" in capsys.readouterr().out
    assert ablations.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)
    for wrong, message in (
        ("--only=mask,nonsense", "--only=nonsense: expected some of nothing"),
        ("--seeds=0", "--seeds=0: expected at least 1"),
        ("--base=nofile.cfg", "--base=nofile.cfg: --flagfile=nofile.cfg: no such file"),
    ):
        with pytest.raises(SystemExit) as stop:
            ablations.main([wrong, "--table_only"])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
