"""experiments/runs.py: order, resuming, failures and interruption of a list of runs."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from experiments import runs as shared
from experiments.runs import Run, finished, train_all
from tests.fake_trainer import FakeTrainer
from tf_mtl_privacy.files import write_json


def runs_in(folder, *names):
    flags = ("--flagfile=synthetic_small.cfg", "--alpha=0.3")
    return [Run(name, folder / name, flags) for name in names]


def test_train_all_skips_finished_runs_and_keeps_the_order(tmp_path):
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


def test_train_all_after_a_failed_run_trains_the_others_and_retries(tmp_path):
    trainer, runs = FakeTrainer(b=[1]), runs_in(tmp_path, "a", "b", "c")
    assert train_all(runs, trainer) == {"b": "train ended with 1"}
    assert list(finished(runs)) == ["a", "c"]
    assert train_all(runs, trainer) == {} and trainer.trained == ["a", "b", "c", "b"]


@pytest.mark.parametrize("code", [130, -2])
def test_train_all_interrupted_stops_and_resumes(tmp_path, code):
    trainer, runs = FakeTrainer(b=[code]), runs_in(tmp_path, "a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        train_all(runs, trainer)
    assert trainer.trained == ["a", "b"]
    assert train_all(runs, trainer) == {} and trainer.trained == ["a", "b", "b", "c"]


def test_process_on_sigterm_forwards_it_to_the_run(tmp_path):
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
    # The run saves its state and exits; the list reports the interruption.
    assert shared._process([sys.executable, "-c", child]) == shared.INTERRUPTED
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_results_without_attackers_are_unfinished(tmp_path):
    (run,) = runs_in(tmp_path, "a")
    trainer = FakeTrainer()
    trainer([*run.command[:-1], "--probe=none"])
    assert run.results() is None and train_all([run], trainer) == {}
    assert run.results()["privacy"]["probe"] is not None


def test_results_of_another_configuration_are_refused(tmp_path):
    (run,) = runs_in(tmp_path, "a")
    trainer = FakeTrainer()
    train_all([run], trainer)
    other = Run("a", run.folder, (*run.flags, "--gamma=0.7"))
    failed = train_all([other], trainer)
    assert "--gamma=0.3, not 0.7" in failed["a"] and len(trainer.trained) == 1
    assert finished([other]) == {}
    moved = Run("a", run.folder, (*run.flags, f"--cache_dir={tmp_path}"))
    assert list(finished([moved])) == ["a"]
    # Options added after the run was made have their defaults.
    saved = json.loads((run.folder / "results.json").read_text())
    del saved["config"]["game"], saved["config"]["train"]["stop_psnr"]
    write_json(run.folder / "results.json", saved)
    assert list(finished([run])) == ["a"]


def test_train_all_with_wrong_flags_fails_one_run_only(tmp_path):
    (good,) = runs_in(tmp_path, "good")
    bad = Run("bad", tmp_path / "bad", ("--objective=nonsense",))
    trainer = FakeTrainer()
    failed = train_all([bad, good], trainer)
    assert "nonsense" in failed["bad"] and trainer.trained == ["good"]
