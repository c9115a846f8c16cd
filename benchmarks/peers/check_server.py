"""The check server in a process of its own, for benchmarks; on loopback only, on free ports."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import psutil

_LONGEST_STOP = 30
_LAST_WORDS = "Ctrl-C"


class Running(NamedTuple):
    """A server: addresses of REST (up to the port) and gRPC, the model's name, its process."""

    rest: str
    grpc: str
    name: str
    process: psutil.Process


@contextlib.contextmanager
def running(export_dir: str) -> Iterator[Running]:
    """Serves a folder that export has written, until it is left."""
    flags = [f"--export_dir={export_dir}", "--host=127.0.0.1", "--port=0", "--grpc_port=0"]
    command = [sys.executable, "-m", "tf_mtl_privacy.serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said: dict[str, str] = {}
            for line in process.stdout:
                first, *_, last = line.split()
                said[first] = last
                if first == _LAST_WORDS:
                    break
            if _LAST_WORDS not in said:
                raise SystemExit("the server did not start; its message stands above")
            rest, _, path = said["REST"].partition("/v1/models/")
            name = path.removesuffix(":predict")
            yield Running(rest, said["gRPC"], name, psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_LONGEST_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
