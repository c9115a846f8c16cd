"""Runs modules in processes that start with TensorFlow loaded, which saves five seconds each.

They are forked from a process that has imported TensorFlow but not used it
(`tests/fork_server.py`); each has its own folder and environment. Tests of a command's imports or
start-up time need a fresh process instead: see `session_python` in conftest.py.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_servers = []


def run_module(module, *arguments, cwd, env=None, timeout=300, untraced=False):
    """Runs `python -m module arguments`; returns the finished process with its output as text.

    `untraced` runs TensorFlow eagerly, which halves the time of a run of a few steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = {name: str(Path(folder) / name) for name in ("stdout", "stderr")}
        job = {
            "module": module,
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "untraced": untraced,
            "env": {**os.environ, **(env or {})},
            **output,
        }
        code = _answer(_server(), job, timeout)
        texts = [Path(output[name]).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess([module, *job["arguments"]], code, *texts)


def _server():
    """Returns the fork server of this process, started on first use."""
    if not _servers:
        command = [sys.executable, "-m", "tests.fork_server"]
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        atexit.register(server.communicate)
        _servers.append(server)
    return _servers[0]


def _answer(server, job, timeout):
    """Returns the exit code; for a killed process, the negative signal as in subprocess."""
    server.stdin.write(json.dumps(job) + "\n")
    child = int(server.stdout.readline())
    late = not select.select([server.stdout], [], [], timeout)[0]
    if late:
        os.kill(child, signal.SIGKILL)
    code = int(server.stdout.readline())
    if late:
        raise subprocess.TimeoutExpired(job["module"], timeout)
    return code
