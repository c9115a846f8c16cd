"""Starts the check server in a separate process for benchmarks, on free loopback ports."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import psutil

_STOP_SECONDS = 30
_LAST_LINE = "Press"


class Running(NamedTuple):
    """A running server: URL for REST, address for gRPC, the model's name, its process."""

    rest: str
    grpc: str
    name: str
    process: psutil.Process


@contextlib.contextmanager
def running(export_dir: str) -> Iterator[Running]:
    """Serves an exported model's folder while the context is open."""
    flags = [f"--export_dir={export_dir}", "--host=127.0.0.1", "--port=0", "--grpc_port=0"]
    command = [sys.executable, "-m", "tf_mtl_privacy.serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            addresses: dict[str, str] = {}
            for line in process.stdout:
                first, *_, last = line.split()
                addresses[first] = last
                if first == _LAST_LINE:
                    break
            if _LAST_LINE not in addresses:
                raise SystemExit("the server did not start; see its message above")
            rest, _, path = addresses["REST"].partition("/v1/models/")
            name = path.removesuffix(":predict")
            yield Running(rest, addresses["gRPC"], name, psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
