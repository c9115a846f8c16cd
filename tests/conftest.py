"""What every test shares: the package on the path, here and in the processes that tests start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import forks  # noqa: E402 (found only now)

os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

# Not imported: it has to be rewritten for its assertions first.
pytest_plugins = ["tests.browser"]


def pytest_collection_modifyitems(items):
    """Files with slow tests go first: one that comes last would keep a single core busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def session_python(tmp_path_factory):
    """Runs this Python with arguments in an empty folder -> the finished process."""
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
    """As `session_python`, in a folder of the test's own."""

    def start(*arguments, cwd=tmp_path, **keywords):
        return session_python(*arguments, cwd=cwd, **keywords)

    return start


@pytest.fixture
def untraced_here():
    """As `untraced` of the tests of training, for a single test."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def session_loaded(tmp_path_factory):
    """As `session_python` with `-m`, but TensorFlow is loaded already; see forks.py."""
    empty = tmp_path_factory.mktemp("empty_loaded")

    def start(module, *arguments, cwd=empty, **keywords):
        return forks.run_module(module, *arguments, cwd=cwd, **keywords)

    return start


@pytest.fixture
def loaded(session_loaded, tmp_path):
    """As `session_loaded`, in a folder of the test's own."""

    def start(module, *arguments, cwd=tmp_path, **keywords):
        return session_loaded(module, *arguments, cwd=cwd, **keywords)

    return start
