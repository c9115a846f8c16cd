"""Wrong starts of commands: refused at once, in one line with a remedy, and leaving no files."""

import dataclasses
import json
import re
import shutil

import pytest

from tests.cli import conftest
from tests.fakes.folders import write_celeba, write_lfw
from tf_mtl_privacy.cli import evaluate
from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.data.opening import check_source, prepare_data
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.training.run_dir import claim

SMALL = ("--image_size=64", *conftest.SMALL)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder -> (exit code, standard output, standard error)."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_HOME", raising=False)

    def start(verb, *flags):
        code = execute(verb, list(flags))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return start


@pytest.fixture
def celeba(tmp_path):
    write_celeba(tmp_path / "celeba", count=60)
    return f"--data_dir={tmp_path / 'celeba'}"


WRONG = {
    "no data folder": (["--data_dir=nowhere"], 2, "--data_dir=", "no such folder"),
    "a file for a data folder": (
        ["--data_dir=../file"],
        2,
        "--data_dir=",
        "is a file; name the folder",
    ),
    "another layout": (["--data_dir=."], 2, "--data_dir=", "img_align_celeba"),
    "tfds without its folder": (
        ["--dataset=tfds:celeb_a", "--data_dir=nowhere"],
        2,
        "--data_dir=",
        "no such folder",
    ),
    "a file for a run folder": (["--run_dir=../file"], 2, "--run_dir=../file", "is a file"),
    "a run folder below a file": (["--run_dir=../file/x"], 1, "--run_dir=../file/x", "another"),
    "a cache that cannot be written": (
        ["--cache_dir=/proc/cache"],
        1,
        "--cache_dir=/proc/cache",
        "another folder",
    ),
    "a flagfile without --flagfile": (["celeba.cfg"], 2, "'celeba.cfg'", "--flagfile=celeba.cfg"),
    "a misspelled flagfile": (
        ["--flagfile=celebA.cfg"],
        2,
        "celebA.cfg",
        "did you mean celeba.cfg",
    ),
    "no weights file": (["--encoder_weights=w.h5"], 2, "--encoder_weights=w.h5", "none"),
    "no VGG16 file": (["--perceptual_weights=v.h5"], 2, "--perceptual_weights=v.h5", "hed"),
    "no backbone": (["--backbone=b"], 2, "--backbone=", "backbone.cfg"),
    "lfw": (["--dataset=lfw"], 2, "--dataset=lfw", "tf_mtl_privacy.evaluate"),
    "lfw by stl": (["--dataset=lfw", "--model=stl"], 2, "--dataset=lfw", "tf_mtl_privacy.evaluate"),
    "a misspelled flag": (["--encodr=compact"], 2, "--encodr", "--encoder"),
    "a misspelled value": (["--encoder=compct"], 2, "--encoder=compct", "compact"),
}


@pytest.mark.parametrize("case", WRONG)
def test_train_wrong_start_is_one_line_and_leaves_no_files(command, celeba, tmp_path, case):
    flags, code, *words = WRONG[case]
    (tmp_path / "file").write_text("mine")
    start = ["--dataset=celeba", celeba]
    before = sorted(tmp_path.rglob("*"))
    found, out, err = command("train", *start, *flags)
    assert (found, out) == (code, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert sorted(tmp_path.rglob("*")) == before


def test_train_wrong_start_is_refused_before_tensorflow_is_loaded(python, tmp_path):
    flags = ("--flagfile=celeba.cfg", "--data_dir=nowhere")
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.train", *flags)
    assert done.returncode == 2
    loaded = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "tf_mtl_privacy.data.opening" in loaded
    assert not {"tensorflow", "keras"} & set(loaded)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert len(said) == 1 and "no such folder" in said[0]


def test_train_compact_encoder_with_celeba_cfg_needs_no_weights(command, celeba, monkeypatch):
    """Commands without ImageNet weights; the next test trains one of them to the end."""

    def fit(config, **options):
        assert config.model.effective_encoder_weights == "none"
        assert config.effective_perceptual_weights == "none"
        raise RunError("this one would train")

    monkeypatch.setattr("tf_mtl_privacy.training.fit.fit", fit)
    for more in (
        ("--encoder=compact",),
        ("--encoder=compact", "--encoder_weights=none"),
        ("--flagfile=compact.cfg",),
    ):
        code, _, err = command("train", "--flagfile=celeba.cfg", celeba, *more)
        assert code == 1 and "error: this one would train" in err, err


@pytest.mark.slow
def test_train_after_a_failed_start_accepts_the_corrected_command(
    command, celeba, tmp_path, untraced_here, monkeypatch
):
    """Failures in files, data, networks and the first step; the last command is correct."""
    cache = f"--cache_dir={tmp_path / 'cache'}"
    flags = ("--flagfile=celeba.cfg", celeba, "--encoder=compact", *SMALL, cache)
    labels = tmp_path / "celeba" / "list_attr_celeba.txt"
    text = labels.read_text()
    labels.write_text(text.replace("60\n", "61\n", 1))
    not_weights = tmp_path / "weights.h5"
    not_weights.write_text("no weights")
    missing = tmp_path / "missing.h5"

    def overflow(*arguments):
        raise MemoryError("in the first step")

    for more, code, word in (
        ((f"--encoder_weights={missing}",), 2, "no such file"),
        ((), 2, "says 61 rows, there are 60"),
        ((f"--encoder_weights={not_weights}",), 2, "weights.h5"),
        ((f"--perceptual_weights={not_weights}",), 2, "weights.h5"),
        (("--delta=0.1",), 2, "--delta=0.1"),
        (("--checkpoint_steps=7",), 1, "out of memory"),
    ):
        if word == "weights.h5":
            labels.write_text(text)
        if word == "out of memory":
            monkeypatch.setattr("tf_mtl_privacy.training.trainer.Loop._step", overflow)
        found, _, err = command("train", *flags, *more)
        assert found == code and word in err, err
        assert not (tmp_path / "empty" / "runs").exists(), err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "empty")
    code, _, err = command("train", *flags)
    assert code == 0 and "is small" in err and "compact.cfg" in err, err
    results = json.loads((tmp_path / "empty/runs/default/results.json").read_text())
    assert results["training"]["perceptual_loss"] == "none"
    # Configurations hold what was asked for.
    assert results["config"]["model"]["encoder_weights"] == "auto"


def test_train_on_lfw_names_a_remedy_that_works(command, trained, tmp_path, tiny):
    run_dir = tmp_path / "run"
    shutil.copytree(trained[0], run_dir)
    write_lfw(tmp_path / "lfw", "lfw-deepfunneled")
    data = ["--dataset=lfw", f"--data_dir={tmp_path / 'lfw'}"]
    _, _, err = command("train", *data)
    (remedy,) = re.findall(r"python -m tf_mtl_privacy\.evaluate (.*)", err)
    flags = remedy.replace("RUN_DIR", str(run_dir)).replace("FOLDER", str(tmp_path / "lfw"))
    tasks = "--tasks=gender=Male,age=age_group,expression=Smiling"
    code, out, err = command("evaluate", *flags.split(), tasks, tiny[-1])
    assert code == 0 and "gender" in out, err


def test_check_source_uses_a_store_in_a_read_only_cache(tmp_path, monkeypatch):
    write_celeba(tmp_path / "celeba", count=20)
    flags = ["--dataset=celeba", f"--data_dir={tmp_path / 'celeba'}", "--image_size=32"]
    data = parse("prepare", [*flags, f"--cache_dir={tmp_path / 'cache'}"]).data
    prepare_data(data)

    def read_only(*_, dir, **options):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    check_source(data)
    with pytest.raises(RunError, match="cannot write there: Permission denied; give another"):
        check_source(dataclasses.replace(data, image_size=64))


@pytest.mark.parametrize("verb", ["evaluate", "predict", "audit", "export"])
def test_commands_without_a_run_name_what_they_need(capsys, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    more = {"predict": ["photo.jpg"], "export": ["--export_dir=e"]}.get(verb, [])

    def refused(*flags):
        assert execute(verb, [*more, *flags], lambda parsed: None) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1
        assert ("--server=http://HOST:PORT" in err) == (verb == "predict")
        assert ("--saved_model=FOLDER" in err) == (verb == "audit")
        return err

    assert f"{verb} needs a trained run: give --run_dir=RUN_DIR" in refused()
    assert "--run_dir=nowhere: no such folder" in refused("--run_dir=nowhere")
    (tmp_path / "file").touch()
    assert "--run_dir=file: is a file" in refused("--run_dir=file")
    (tmp_path / "folder").mkdir()
    assert "is not a run folder (no config.json)" in refused("--run_dir=folder")


def test_evaluate_missing_data_is_refused_before_the_run_is_loaded(command, trained, monkeypatch):
    monkeypatch.setattr(evaluate, "load_tensorflow", lambda: pytest.fail("too early"))
    flags = (f"--run_dir={trained[0]}", "--dataset=lfw", "--data_dir=nowhere")
    code, _, err = command("evaluate", *flags)
    assert code == 2 and "nowhere: no such folder" in err


def interrupted(verb, *flags):
    def main(parsed):
        raise KeyboardInterrupt

    assert execute(verb, list(flags), main) == 130


PROMISES = [
    ("train", (), "there is no checkpoint yet; rerun the same command to start again"),
    ("prepare", (), "rerun the same command to continue with the remaining pictures"),
    (
        "prepare",
        ("--force",),
        "rerun the same command without --force to continue with the remaining pictures",
    ),
    (
        "accounting",
        ("--rows=9", "--batch_size=3", "--steps=1"),
        "rerun the same command to start again",
    ),
    ("report", (), "rerun the same command to start again"),
    ("serve", ("--export_dir=e",), "no server was started"),
]


@pytest.mark.parametrize(("verb", "flags", "promise"), PROMISES)
def test_interrupted_command_says_how_to_resume(
    capsys, tmp_path, monkeypatch, verb, flags, promise
):
    monkeypatch.chdir(tmp_path)
    more = ("--noise_multiplier=1",) if verb == "accounting" else ()
    interrupted(verb, *flags, *more)
    assert capsys.readouterr().err == f"interrupted; {promise}\n"


def test_interrupted_train_says_how_to_resume(capsys, tmp_path, trained):
    run_dir = tmp_path / "run"
    flag = f"--run_dir={run_dir}"
    shutil.copytree(trained[0] / "checkpoints", run_dir / "checkpoints")
    interrupted("train", flag)
    assert "to resume from the last checkpoint" in capsys.readouterr().err
    (run_dir / "training.json").touch()
    interrupted("train", flag, "--probe=none")
    line = "interrupted; training is finished; rerun the same command to evaluate\n"
    assert capsys.readouterr().err == line
    interrupted("train", flag, "--probe=thorough")
    assert "finished attackers are saved; rerun" in capsys.readouterr().err


def test_interrupted_command_says_what_is_saved(capsys, trained):
    flag, saw = f"--run_dir={trained[0]}", capsys.readouterr
    for verb, flags, promise in (
        ("evaluate", (), "rerun the same command to start again"),
        ("evaluate", ("--probe=thorough",), "finished attackers are saved"),
        ("predict", ("x.png",), "no table was written; rerun the same command to start again"),
        ("export", ("--export_dir=e",), "rerun the same command to start again"),
        ("audit", ("--shadows=4",), "finished shadow models"),
        (
            "audit",
            ("--setting=thorough", "--shadows=0"),
            "finished attackers of the private label are saved",
        ),
        ("audit", ("--setting=thorough",), "finished shadow models and attackers"),
    ):
        interrupted(verb, *flags, flag)
        assert f"interrupted; {promise}" in saw().err, (verb, flags)


def test_interrupt_messages_cover_every_command():
    assert {verb for verb, _, _ in PROMISES} | {"evaluate", "predict", "export", "audit"} == set(
        COMMANDS
    )


def test_train_run_folder_of_another_run_names_the_option(command, celeba, tmp_path):
    flags = ["--flagfile=celeba.cfg", celeba, "--encoder=compact"]
    with claim("runs/default", parse("train", flags).config) as folder:
        (folder / "training.json").touch()
    code, _, err = command("train", *flags, "--alpha=0.5")
    assert code == 2 and "--alpha=0.4, not 0.5" in err
    # The remedy: another folder is asked for nothing else.
    code, _, err = command("train", *flags, "--alpha=0.5", "--run_dir=other", "--delta=1")
    assert code == 2 and "holds a run" not in err
