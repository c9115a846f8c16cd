"""The main job on the command line: what a user sees when it works and when it does not."""

import json
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.fakes.folders import write_lfw


def one_line(done, code):
    """Returns the single error line of a failed command; there must be no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_train_prints_a_table_and_writes_results(trained, results):
    run_dir, done = trained
    for word in ("gender", "age", "expression", "PSNR", "results.json"):
        assert word in done.stdout
    for task in ("gender", "age", "expression"):
        assert 0 <= results["utility"][task]["accuracy"] <= 1
        assert results["utility"][task]["n"] == 40
    assert 0 <= results["utility"]["expression"]["f1"] <= 1
    assert 5 < results["restoration"]["psnr_db"] < 60
    assert 0 <= results["privacy"]["discriminator"]["accuracy"] <= 1
    assert results["privacy"]["chance"] == pytest.approx(1 / 8)
    assert (run_dir / "metrics.jsonl").read_text().count("\n") == 4


def test_train_results_claim_measured_values_only(trained, results):
    assert results["stop_rule"]["met"] is False
    for part in ("privacy", "membership"):
        assert results["stop_rule"]["parts"][part]["status"] == "not_evaluated"
    dp = results["dp"]
    assert set(dp["released"].values()) == {None}, "the encoder saw the rows without noise"
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"] > 0
    assert dp["reason"] and dp["epsilon_rdp"] >= dp["epsilon_pld"]
    assert dp["steps"] == sum(part["steps_in_weights"] for part in dp["phases"].values()) == 8
    assert "not evaluated" in trained[1].stdout.lower().replace("_", " ")


def test_train_run_folder_is_private(trained):
    run_dir = trained[0]
    found = [run_dir, *run_dir.rglob("*")]
    names = {path.name for path in found}
    assert {"models", "tensorboard", "checkpoints", "results.json", "restored.png"} <= names
    open_to_others = [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not open_to_others
    assert not list(run_dir.glob("features*"))


def test_train_finished_run_is_not_trained_again(trained, loaded, tiny):
    run_dir, first = trained
    before = (run_dir / "training.json").read_text()
    done = loaded("tf_mtl_privacy.train", *tiny, f"--run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    assert (run_dir / "training.json").read_text() == before
    assert done.stdout.splitlines()[-5:] == first.stdout.splitlines()[-5:]


def test_train_from_a_saved_configuration_starts_the_same_run(trained, loaded, tmp_path):
    run_dir, _ = trained
    again = tmp_path / "again"
    done = loaded(
        "tf_mtl_privacy.train",
        f"--config={run_dir}/config.json",
        "--model=mtl_adv",
        "--probe=none",
        f"--run_dir={again}",
        untraced=True,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((r / "config.json").read_text()) for r in (again, run_dir))
    assert ours["train"].pop("model") == "mtl_adv"
    assert theirs["train"].pop("model") == "mtl_adv_dp"
    assert ours == theirs


def test_train_run_folder_of_another_configuration_is_refused(trained, loaded, tiny):
    run_dir, _ = trained
    done = loaded("tf_mtl_privacy.train", *tiny, "--alpha=0.5", f"--run_dir={run_dir}")
    line = one_line(done, 2)
    assert "--alpha=0.4" in line and "0.5" in line and str(run_dir) in line


@pytest.mark.parametrize("model", ["stl", "mtl_dp"])
def test_train_other_models(model, loaded, tiny, tmp_path):
    run_dir = tmp_path / "run"
    flags = (f"--model={model}", f"--run_dir={run_dir}")
    done = loaded("tf_mtl_privacy.train", *tiny, *flags, untraced=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "results.json").read_text())
    assert set(results["utility"]) == {"gender", "age", "expression"}
    if model == "stl":
        assert sorted(p.name for p in (run_dir / "tasks").iterdir()) == [
            "age",
            "expression",
            "gender",
        ]
        assert results["dp"]["scope"] is None
    else:
        assert results["training"]["final_beta"] == 0


def test_train_non_finite_loss_stops_and_keeps_the_checkpoint(loaded, tiny, tmp_path):
    run_dir = tmp_path / "run"
    done = loaded(
        "tf_mtl_privacy.train",
        *tiny,
        "--adversarial_learning_rate=1e38",
        "--adversarial_epochs=3",
        f"--run_dir={run_dir}",
        untraced=True,
    )
    line = one_line(done, 1)
    assert "finite" in line or "nan" in line
    assert "last good checkpoint" in line
    lines = [json.loads(text) for text in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [entry["phase"] for entry in lines][:3] == ["business", "discriminator", "restorer"]
    assert not (run_dir / "training.json").exists()
    newest = tf.train.latest_checkpoint(run_dir / "checkpoints")
    reader = tf.train.load_checkpoint(newest)
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.isfinite(value).all(), name


def test_train_non_finite_weights_in_the_last_step_fail(loaded, tiny, tmp_path):
    run_dir = tmp_path / "run"
    flags = ("--adversarial_learning_rate=1e38", "--batch_size=64", f"--run_dir={run_dir}")
    done = loaded("tf_mtl_privacy.train", *tiny, *flags, untraced=True)
    assert "last good checkpoint" in one_line(done, 1)
    assert not (run_dir / "training.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_interrupted_run_leaves_a_checkpoint(number, tiny, tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "tf_mtl_privacy.train", *tiny, f"--run_dir={run_dir}"]
    command += ["--business_epochs=100000", "--gate_business="]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 200
        journal = run_dir / "metrics.jsonl"
        while not (journal.exists() and journal.read_text().count("\n") > 2):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors and "interrupted" in errors
    assert (run_dir / "checkpoints" / "checkpoint").exists()


def test_prepare_store_unwritable_folder_is_one_line(loaded, tiny):
    done = loaded("tf_mtl_privacy.train", *tiny, "--run_dir=/proc/nowhere/run")
    assert "/proc/nowhere" in one_line(done, 1)


def test_train_full_disk_is_one_line(python, tiny, tmp_path):
    # A bound on file sizes refuses the write as a full disk would.
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = python(
        "-m",
        "tf_mtl_privacy.train",
        *tiny,
        f"--run_dir={tmp_path / 'run'}",
        preexec_fn=small_files_only,
    )
    one_line(done, 1)
    assert not (tmp_path / "run" / "training.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha=-1"], ["--alpha", "-1", ">= 0"]),
        (["--alpha=much"], ["--alpha", "much", "number"]),
        (["--model=gan"], ["--model", "gan", "mtl_adv_dp"]),
        (["--modle=stl"], ["--modle", "--model"]),
        (["--image_size=30"], ["--image_size", "30"]),
        (["--feature_stride=32"], ["--feature_stride", "32"]),
        (["--dataset=celeba"], ["--data_dir"]),
        (["--dataset=mnist"], ["--dataset", "mnist", "celeba"]),
        (["--tasks=gender"], ["--tasks", "name=attribute"]),
        (["--tasks=gender=sex"], ["sex", "gender"]),
        (["--private_label=none"], ["--private_label", "stl"]),
        (["--noise_multiplier=0"], ["--noise_multiplier", "--allow_zero_noise"]),
        (["--l2_norm_clip=0"], ["--l2_norm_clip", "> 0"]),
        (["--target_epsilon_pretrain=2"], ["--target_epsilon_adversarial"]),
        (["--encoder_weights=imagenet"], ["--encoder_weights", "compact"]),
        (["--flagfile=nowhere.cfg"], ["nowhere.cfg", "demo.cfg"]),
        (["--private_label=identity", "--num_identities=1"], ["--num_identities", ">= 2"]),
    ],
)
def test_train_wrong_flags_exit_with_2_and_one_line(arguments, words, loaded, tiny, tmp_path):
    run_dir = tmp_path / "run"
    done = loaded("tf_mtl_privacy.train", *tiny, *arguments, f"--run_dir={run_dir}")
    line = one_line(done, 2)
    for word in words:
        assert word in line
    assert not (run_dir / "checkpoints").exists()


def test_train_weights_of_another_network_are_refused(trained, loaded, tiny, tmp_path):
    weights = trained[0] / "models" / "restorer.weights.h5"
    done = loaded(
        "tf_mtl_privacy.train",
        *tiny,
        f"--encoder_weights={weights}",
        f"--run_dir={tmp_path / 'run'}",
    )
    assert "restorer.weights.h5" in one_line(done, 2)


def test_train_starts_from_the_weights_of_another_run(trained, loaded, tiny, tmp_path):
    weights = trained[0] / "models" / "encoder.weights.h5"
    done = loaded(
        "tf_mtl_privacy.train",
        *tiny,
        f"--encoder_weights={weights}",
        "--freeze_backbone",
        f"--run_dir={tmp_path / 'run'}",
        untraced=True,
    )
    assert done.returncode == 0, done.stderr


def test_evaluate_run_on_synthetic_faces_on_lfw(trained, python, tiny, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(trained[0], run_dir)
    write_lfw(tmp_path / "lfw", "lfw-deepfunneled")
    other = ("--dataset=lfw", "--data_dir=lfw", tiny[-1])
    tasks = "--tasks=gender=Male,age=age_group,expression=Smiling"
    done = python("-m", "tf_mtl_privacy.evaluate", f"--run_dir={run_dir}", *other, tasks)
    assert done.returncode == 0, done.stderr
    (path,) = run_dir.glob("results_lfw_????????.json")
    results = json.loads(path.read_text())
    assert {name: part["n"] for name, part in results["utility"].items()} == dict.fromkeys(
        ("gender", "age", "expression"), 4
    )
    notes = results["evaluated_on"]["notes"]
    assert "gender: the data's classes not_Male, Male are read as female, male" in notes
