"""Exit codes and the one line per error, in this process and in one of its own."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import zipfile

import pytest

from tf_mtl_privacy.cli import main as cli
from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.tf_loading import load_tensorflow


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


def failing(error):
    def main(parsed):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--x=1: expected 2"), 2, "error: --x=1: expected 2"),
        (RunError("loss is NaN at step 7"), 1, "error: loss is NaN at step 7"),
        (RunError("two\nlines"), 1, "error: two lines"),
        (
            OSError(errno.ENOSPC, "No space left on device", "f"),
            1,
            "error: No space left on device: f",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 1, "error: Permission denied: f"),
        (MemoryError(), 1, "error: out of memory"),
        (ResourceExhaustedError("OOM when\nallocating"), 1, "error: out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("x"), 1, "error: KeyError: 'x' (this is a bug;"),
    ],
)
def test_errors_have_a_code_and_one_line(capsys, error, code, line):
    assert cli.execute("train", [], failing(error)) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(line) and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("flag", "shown"),
    [("--debug", 1), ("--debug=true", 1), ("-debug=1", 1), ("--debug=false", 0), ("--nodebug", 0)],
)
def test_debug_shows_the_traceback_however_it_is_written(capsys, flag, shown):
    assert cli.execute("train", [flag], failing(RunError("lost"))) == 1
    assert capsys.readouterr().err.count("Traceback") == shown


def test_what_a_command_writes_is_for_its_owner_and_the_process_is_left_as_it_was(tmp_path):
    def main(parsed):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").touch()

    before = os.umask(0o022)
    try:
        assert cli.execute("train", [], main) == 0
        assert cli.execute("train", [], failing(KeyboardInterrupt())) == 130
        after = os.umask(0o022)
    finally:
        os.umask(before)
    assert after == 0o022
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("folder", "file")]
    assert modes == [0o700, 0o600]


def test_main_s_own_code_and_none():
    assert cli.execute("train", [], lambda parsed: None) == 0
    assert cli.execute("train", [], lambda parsed: 3) == 3
    with pytest.raises(SystemExit) as caught:
        cli.run("train", [], lambda parsed: 3)
    assert caught.value.code == 3


def test_wrong_flags_never_reach_main(capsys):
    called = []
    assert cli.execute("train", ["--alpha=-1"], called.append) == 2
    assert called == []
    assert capsys.readouterr().err == "error: --alpha=-1.0: expected >= 0\n"


def test_help_never_reaches_main(capsys):
    called = []
    assert cli.execute("train", ["--help"], called.append) == 0
    assert called == []
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: python -m tf_mtl_privacy.train") and captured.err == ""


def test_traceback_only_when_asked(capsys, monkeypatch):
    cli.execute("train", [], failing(KeyError("x")))
    assert "Traceback" not in capsys.readouterr().err
    cli.execute("train", ["--debug"], failing(KeyError("x")))
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    cli.execute("train", [], failing(KeyError("x")))
    assert "Traceback" in capsys.readouterr().err


def test_another_keras_backend_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert cli.execute("train", [], lambda parsed: None) == 2
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err


SETTINGS = """
import json, sys
from tf_mtl_privacy.tf_loading import load_tensorflow
from tf_mtl_privacy.cli import main as cli
def main(parsed):
    load_tensorflow()
    import keras
    from tf_mtl_privacy.models.layers import check_keras_settings
    check_keras_settings()
    print(keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon(),
          keras.layers.Dense(1).dtype_policy.name, keras.layers.Conv2D(1, 1).data_format)
cli.run("train", [], main)
"""


def test_settings_of_keras_json_do_not_reach_the_networks(python, tmp_path):
    settings = {
        "floatx": "float16",
        "image_data_format": "channels_first",
        "epsilon": 0.5,
        "backend": "jax",
    }
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    environment = {"KERAS_HOME": str(tmp_path)}
    done = python("-c", SETTINGS, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float32", "channels_last", "1e-07", "float32", "channels_last"]
    # The user's file is the user's.
    assert json.loads((tmp_path / "keras.json").read_text()) == settings


@pytest.mark.parametrize(
    "content", ['{"floatx": "bfloat16"}', '{"image_data_format": "nhwc"}', '{"epsilon": 1}', "[1]"]
)
def test_keras_json_that_keras_refuses_is_named(capsys, monkeypatch, tmp_path, content):
    (tmp_path / "keras.json").write_text(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert cli.execute("train", [], lambda parsed: load_tensorflow()) == 2
    line = capsys.readouterr().err
    assert str(tmp_path / "keras.json") in line and line.count("\n") == 1


def test_threads_are_set_before_tensorflow_is_loaded(monkeypatch):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    seen = []
    cli.execute("train", ["--threads=3"], lambda p: seen.append(os.environ["OMP_NUM_THREADS"]))
    assert seen == ["3"]


WAITING = """
import sys, time
from tf_mtl_privacy.cli import main as cli
def main(parsed):
    print("ready", flush=True)
    time.sleep(60)
cli.run("train", [], main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt(number):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job may have handed down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.startswith("interrupted") and "Traceback" not in stderr


TALKING = """
from tf_mtl_privacy.cli import main as cli
def main(parsed):
    for number in range(100000):
        print(number)
cli.run("train", [], main)
"""


def test_a_closed_pipe_is_quiet():
    process = subprocess.Popen(
        [sys.executable, "-c", TALKING], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 1


def processor_seconds():
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_help_and_wrong_flags_answer_fast_and_without_tensorflow(python, verb):
    before = processor_seconds()
    shown = python("-X", "importtime", "-m", f"tf_mtl_privacy.{verb}", "--helpfull")
    seconds = processor_seconds() - before
    assert shown.returncode == 0 and shown.stdout.startswith("usage: python -m")
    assert "tensorflow" not in shown.stderr and "keras" not in shown.stderr
    # 0.1 to 0.3 s; TensorFlow's import takes several. Not by the clock: others may keep it waiting.
    assert seconds < 3
    wrong = python("-m", f"tf_mtl_privacy.{verb}", "--no_such_flag")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: --no_such_flag") and wrong.stdout == ""


@pytest.fixture(scope="module")
def wheel(repo_root, tmp_path_factory):
    import shutil

    # Built from a copy, so that no build folders are left in the checkout.
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(repo_root / name, source)
    for name in ("tf_mtl_privacy", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repo_root / name, source / name, ignore=ignored)
    command = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", target]
    subprocess.run(
        [sys.executable, "-m", *map(str, command), str(source)], check=True, capture_output=True
    )
    (built,) = target.glob("*.whl")
    return built


def test_wheel_holds_every_module_and_configuration(repo_root, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        path.relative_to(repo_root).as_posix()
        for path in (repo_root / "tf_mtl_privacy").rglob("*.py")
    }
    configs = {f"tf_mtl_privacy/configs/{path.name}" for path in repo_root.glob("configs/*.cfg")}
    assert len(configs) >= 17
    templates = {
        path.relative_to(repo_root).as_posix()
        for path in (repo_root / "tf_mtl_privacy").glob("reporting/templates/*")
    }
    assert len(templates) == 2
    assert modules | configs | templates | {"tf_mtl_privacy/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/"))]


def test_wheel_finds_its_configurations_from_any_folder(python, wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import tf_mtl_privacy.cli.flags as f, tf_mtl_privacy.cli.flagfiles as g;"
        "print(f.__file__, g.shipped()['celeba.cfg'],"
        "f.parse('train', ['--flagfile=celeba_stl.cfg', '--data_dir=x']).config.train.model)"
    )
    done = python("-c", code, env={"PYTHONPATH": str(site)})
    assert done.returncode == 0, done.stderr
    code_file, config_file, model = done.stdout.split()
    assert code_file.startswith(str(site)) and config_file.startswith(str(site))
    assert model == "stl"
