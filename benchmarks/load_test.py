"""Load on the check server, over loopback only: many clients at once, with faults in the middle.

Starts a server of its own on free ports in a process of its own, lets clients ask it for a time,
sends bad requests by REST and gRPC in the middle of that, and prints errors, times and the server's
memory. It ends by itself. Exit code 1 where a good request failed or a fault was not refused as it
should be.

    python benchmarks/load_test.py [--export_dir=FOLDER] [--clients=200] [--seconds=60]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent)]

import grpc_faults  # noqa: E402
from check_server import Running, running  # noqa: E402

from tf_mtl_privacy.data import synthetic_faces  # noqa: E402
from tf_mtl_privacy.reporting.pictures import png_bytes  # noqa: E402

MOST_SECONDS, MOST_CLIENTS = 600, 1000
_LOOKS = 6
_GRPC_STUCK = 40


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
def exported(export_dir: str) -> Iterator[str]:
    """The folder, or where none is named an untrained model of demo.cfg for the time being."""
    if export_dir:
        yield export_dir
        return
    from serving_targets import served

    with served("") as made:
        yield str(made.folder.parent)


class Found(NamedTuple):
    """Seconds of each good request, what failed, faults not refused rightly, memory in bytes."""

    times: list[float]
    failed: list[str]
    wrong: list[str]
    memory: list[int]


async def load(server: Running, clients: int, seconds: float) -> Found:
    """Lets clients ask for a time, with faults in its second third."""
    address, process = f"{server.rest}/v1/models/{server.name}:predict", server.process
    times: list[float] = []
    failed: list[str] = []
    wrong: list[str] = []
    memory = [process.memory_info().rss]
    ready, bad = bodies(min(clients, 64)), faults()
    # Each client has a connection of its own; what they share is only slow to make.
    options = {"trust_env": False, "timeout": 120.0, "verify": ssl.create_default_context()}
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        async with httpx.AsyncClient(**options) as http:
            while not times or time.monotonic() < end:
                started = time.monotonic()
                try:
                    answer = await http.post(address, content=ready[number % len(ready)])
                    if answer.status_code != 200 or "predictions" not in answer.json():
                        failed.append(f"HTTP {answer.status_code}: {answer.text[:100]}")
                except httpx.HTTPError as error:
                    failed.append(f"{type(error).__name__} {error} {error.__cause__!r}")
                times.append(time.monotonic() - started)

    async def disturb() -> None:
        await asyncio.sleep(seconds / 3)
        while time.monotonic() < end - seconds / 3:
            for name, (body, status) in bad.items():
                try:
                    async with httpx.AsyncClient(**options) as http:
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

    async def disturb_grpc() -> None:
        picture = png_bytes(np.zeros((64, 64, 3), np.uint8))
        by_grpc = grpc_faults.messages(server.name, picture)
        await asyncio.sleep(seconds / 3)
        while time.monotonic() < end - seconds / 3:
            wrong.extend(await asyncio.to_thread(grpc_faults.wrong, server.grpc, by_grpc))

    async def dawdle_grpc() -> None:
        await asyncio.sleep(seconds / 3)
        wrong.extend(await asyncio.to_thread(grpc_faults.stuck, server.grpc, _GRPC_STUCK))

    async def watch() -> None:
        for _ in range(_LOOKS):
            await asyncio.sleep(seconds / _LOOKS)
            memory.append(process.memory_info().rss)

    tasks = [client(number) for number in range(clients)]
    tasks += [disturb(), disturb_grpc(), dawdle_grpc(), watch()]
    await asyncio.gather(*tasks, *(dawdle() for _ in range(5)))
    return Found(times, failed, wrong, memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--export_dir", default="", help="what export has written; empty for an untrained model"
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if not 1 <= options.clients <= MOST_CLIENTS or not 1 <= options.seconds <= MOST_SECONDS:
        parser.error(f"expected --clients <= {MOST_CLIENTS} and --seconds <= {MOST_SECONDS}")
    print(f"load average   {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with exported(options.export_dir) as folder, running(folder) as server:
        process = server.process
        # What the first requests take is kept by the allocator and is no leak.
        asyncio.run(load(server, options.clients, max(1.0, options.seconds / 6)))
        busy = sum(process.cpu_times()[:2])
        started = time.monotonic()
        found = asyncio.run(load(server, options.clients, options.seconds))
        took = time.monotonic() - started
        busy = sum(process.cpu_times()[:2]) - busy
    times, failed, wrong, memory = found
    middle, slow = np.percentile(times, [50, 99]) * 1000
    sizes = ", ".join(f"{size / 2**20:.0f}" for size in memory)
    print(f"clients        {options.clients}, for {options.seconds:g} s")
    print(f"requests       {len(times)}, {len(times) / took:.1f} per second")
    print(f"errors         {len(failed)}" + "".join(f"\n  {text}" for text in failed[:5]))
    print(f"faults wrong   {len(wrong)}" + "".join(f"\n  {text}" for text in wrong[:5]))
    print(f"p50, p99       {middle:.0f} ms, {slow:.0f} ms")
    print(f"server's CPU   {busy / len(times) * 1000:.0f} ms per request, faults included")
    print(f"server memory  {sizes} MiB, before and every {options.seconds / _LOOKS:g} s")
    return 1 if failed or wrong else 0


def _file(content: bytes) -> bytes:
    row = {"b64": base64.b64encode(content).decode()}
    return json.dumps({"instances": [row]}).encode()


if __name__ == "__main__":
    sys.exit(main())
