"""Processes that begin with TensorFlow loaded, which takes five seconds anywhere else.

They are forked from a process of this Python that has imported it and has done nothing with it
(`tests/fork_server.py`). Each is a process of its own, with a folder, an environment and an end of
its own. What a command loads, and how fast it answers, is for a process that starts from nothing:
see `session_python` in conftest.py.
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
    """`python -m module arguments` -> the finished process, its output as text.

    `untraced`: TensorFlow runs operation by operation, which a run of a few steps takes half the
    time for; for tests of what a command says and leaves behind.
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
    """The one of this process, started when it is first asked for."""
    if not _servers:
        command = [sys.executable, "-m", "tests.fork_server"]
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        atexit.register(server.communicate)
        _servers.append(server)
    return _servers[0]


def _answer(server, job, timeout):
    """The exit code, as subprocess has it: minus the signal of a process that was killed."""
    server.stdin.write(json.dumps(job) + "\n")
    child = int(server.stdout.readline())
    late = not select.select([server.stdout], [], [], timeout)[0]
    if late:
        os.kill(child, signal.SIGKILL)
    code = int(server.stdout.readline())
    if late:
        raise subprocess.TimeoutExpired(job["module"], timeout)
    return code
