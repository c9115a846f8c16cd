"""Load on the check server, over loopback only: many clients at once, with faults in the middle.

Starts a server of its own on free ports in a process of its own, lets clients ask it for a time,
sends bad requests in the middle of that, and prints errors, times and the server's memory. It ends
by itself. Exit code 1 where a good request failed or a fault was not refused as it should be.

    python benchmarks/load_test.py --export_dir=FOLDER [--clients=200] [--seconds=60]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.reporting.pictures import png_bytes

MOST_SECONDS, MOST_CLIENTS = 600, 1000
_LONGEST_STOP = 30


def bodies(count: int) -> list[bytes]:
    """Requests of one drawn face each."""
    faces = synthetic_faces.render(0, "test", np.arange(count), size=64)[0]
    return [_file(png_bytes(face)) for face in faces]


def faults() -> dict[str, tuple[bytes, int]]:
    """Bad requests -> the status that each must be refused with."""
    picture = png_bytes(np.zeros((64, 64, 3), np.uint8))
    bomb = bytearray(picture)
    bomb[16:24] = (10_000).to_bytes(4, "big") * 2
    many = json.dumps({"signature_name": "classify", "instances": [0] * 10_000}).encode()
    return {
        "not an image": (_file(b"hello"), 400),
        "truncated": (_file(picture[:60]), 400),
        "100 megapixels claimed": (_file(bytes(bomb)), 400),
        "invalid JSON": (b'{"instances": [', 400),
        "invalid base64": (b'{"instances": [{"b64": "%"}]}', 400),
        "batch of 10,000": (many, 400),
        "unknown signature": (b'{"signature_name": "x", "instances": [1]}', 400),
        "40 MiB": (b"x" * (40 * 2**20), 413),
    }


@contextlib.contextmanager
def running(export_dir: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: address of `:predict`, and the process."""
    flags = [f"--export_dir={export_dir}", "--host=127.0.0.1", "--port=0", "--grpc_port=0"]
    command = [sys.executable, "-m", "tf_mtl_privacy.serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ""
        try:
            for line in process.stdout:
                if line.split()[:1] == ["REST"]:
                    address = line.split()[-1]
                if line.startswith("Ctrl-C"):
                    break
            if not address:
                raise SystemExit("the server did not start; its message stands above")
            yield address, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_LONGEST_STOP)
            except subprocess.TimeoutExpired:
                process.kill()


async def load(
    address: str, clients: int, seconds: float
) -> tuple[list[float], list[str], list[str]]:
    """Seconds of each good request, what failed, and faults that were not refused as they should."""
    times: list[float] = []
    failed: list[str] = []
    wrong: list[str] = []
    ready = bodies(min(clients, 64))
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    options = {"trust_env": False, "timeout": 120.0, "limits": limits}

    async def client(number: int, http: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                answer = await http.post(address, content=ready[number % len(ready)])
                good = answer.status_code == 200 and "predictions" in answer.json()
                if not good:
                    failed.append(f"HTTP {answer.status_code}: {answer.text[:100]}")
            except httpx.HTTPError as error:
                failed.append(f"{type(error).__name__}: {error}")
            times.append(time.monotonic() - started)

    async def disturb(http: httpx.AsyncClient) -> None:
        await asyncio.sleep(seconds / 3)
        while time.monotonic() < end - seconds / 3:
            for name, (body, status) in faults().items():
                try:
                    answer = await http.post(address, content=body)
                    if answer.status_code != status:
                        wrong.append(f"{name}: {answer.status_code}, expected {status}")
                except httpx.TransportError as error:
                    # A server may hang up on a body that it will not read.
                    if status != 413:
                        wrong.append(f"{name}: {type(error).__name__}")

    async def dawdle() -> None:
        """A client that stops in the middle of its request."""
        host, port = address.split("/")[2].split(":")
        await asyncio.sleep(seconds / 3)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/models/x:predict HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        await asyncio.wait_for(reader.read(), 60 + seconds)
        writer.close()

    async with httpx.AsyncClient(**options) as http, httpx.AsyncClient(**options) as other:
        tasks = [client(number, http) for number in range(clients)]
        await asyncio.gather(*tasks, disturb(other), *(dawdle() for _ in range(5)))
    return times, failed, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export_dir", required=True, help="folder that export has written")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if not 1 <= options.clients <= MOST_CLIENTS or not 1 <= options.seconds <= MOST_SECONDS:
        parser.error(f"expected --clients <= {MOST_CLIENTS} and --seconds <= {MOST_SECONDS}")
    with running(options.export_dir) as (address, process):
        # What the first requests take is kept by the allocator and is no leak.
        asyncio.run(load(address, options.clients, max(1.0, options.seconds / 6)))
        before = process.memory_info().rss
        started = time.monotonic()
        times, failed, wrong = asyncio.run(load(address, options.clients, options.seconds))
        took = time.monotonic() - started
        after = process.memory_info().rss
    middle, slow = np.percentile(times, [50, 99]) * 1000
    print(f"clients        {options.clients}, for {options.seconds:g} s")
    print(f"requests       {len(times)}, {len(times) / took:.1f} per second")
    print(f"errors         {len(failed)}" + "".join(f"\n  {text}" for text in failed[:5]))
    print(f"faults wrong   {len(wrong)}" + "".join(f"\n  {text}" for text in wrong[:5]))
    print(f"p50, p99       {middle:.0f} ms, {slow:.0f} ms")
    print(f"server memory  {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    return 1 if failed or wrong else 0


def _file(content: bytes) -> bytes:
    row = {"b64": base64.b64encode(content).decode()}
    return json.dumps({"instances": [row]}).encode()


if __name__ == "__main__":
    sys.exit(main())
