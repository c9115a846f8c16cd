"""Fixtures of all tests, and the package on the path of tests and their subprocesses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import forks  # noqa: E402 (needs the path)

os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

# Not imported here, because pytest must first rewrite its assertions.
pytest_plugins = ["tests.browser"]


def pytest_collection_modifyitems(items):
    """Runs files with slow tests first: at the end they would occupy only one core."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def session_python(tmp_path_factory):
    """Returns a function that runs this Python in an empty folder, and its finished process."""
    empty = tmp_path_factory.mktemp("empty")

    def start(*arguments, cwd=empty, env=None, timeout=300, **keywords):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            **keywords,
        )

    return start


@pytest.fixture
def python(session_python, tmp_path):
    """Like `session_python`, in the test's own folder."""

    def start(*arguments, cwd=tmp_path, **keywords):
        return session_python(*arguments, cwd=cwd, **keywords)

    return start


@pytest.fixture
def untraced_here():
    """Runs TensorFlow functions eagerly in one test, like `untraced` of the training tests."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def session_loaded(tmp_path_factory):
    """Like `session_python` with `-m`, in a process that has TensorFlow loaded; see forks.py."""
    empty = tmp_path_factory.mktemp("empty_loaded")

    def start(module, *arguments, cwd=empty, **keywords):
        return forks.run_module(module, *arguments, cwd=cwd, **keywords)

    return start


@pytest.fixture
def loaded(session_loaded, tmp_path):
    """Like `session_loaded`, in the test's own folder."""

    def start(module, *arguments, cwd=tmp_path, **keywords):
        return session_loaded(module, *arguments, cwd=cwd, **keywords)

    return start
