"""Load test of the check server: many clients at once, and bad requests in between.

Starts a server process on free loopback ports, lets clients send requests for some seconds, sends
bad requests over REST and gRPC in the second third of that time, and prints errors, times and the
server's memory. It exits with 1 if a good request failed or a bad one got the wrong status.

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

import bad_grpc_requests  # noqa: E402
from check_server import Running, running  # noqa: E402

from tf_mtl_privacy.data import synthetic_faces  # noqa: E402
from tf_mtl_privacy.reporting.pictures import png_bytes  # noqa: E402

MAX_SECONDS, MAX_CLIENTS = 600, 1000
_MEMORY_SAMPLES = 6
_SILENT_GRPC_CALLS = 40


def bodies(count: int) -> list[bytes]:
    """Returns requests with one synthetic face each."""
    faces = synthetic_faces.render(0, "test", np.arange(count), size=64)[0]
    return [_body(png_bytes(face)) for face in faces]


def bad_requests() -> dict[str, tuple[bytes, int]]:
    """Returns bad requests by name, each with the status it must get."""
    picture = png_bytes(np.zeros((64, 64, 3), np.uint8))
    bomb = bytearray(picture)
    bomb[16:24] = (10_000).to_bytes(4, "big") * 2
    many = json.dumps({"signature_name": "classify", "instances": [0] * 10_000}).encode()
    return {
        "not an image": (_body(b"hello"), 400),
        "truncated": (_body(picture[:60]), 400),
        "100 megapixels claimed": (_body(bytes(bomb)), 400),
        "invalid JSON": (b'{"instances": [', 400),
        "invalid base64": (b'{"instances": [{"b64": "%"}]}', 400),
        "batch of 10,000": (many, 400),
        "unknown signature": (b'{"signature_name": "x", "instances": [1]}', 400),
        "40 MiB": (b"x" * (40 * 2**20), 413),
    }


@contextlib.contextmanager
def exported(export_dir: str) -> Iterator[str]:
    """Yields the folder, or a temporary export of an untrained demo.cfg model if it is empty."""
    if export_dir:
        yield export_dir
        return
    from serving_targets import served

    with served("") as made:
        yield str(made.folder.parent)


class LoadResult(NamedTuple):
    """Seconds of each good request, errors, wrong statuses of bad requests, memory in bytes."""

    times: list[float]
    failed: list[str]
    wrong: list[str]
    memory: list[int]


async def load(server: Running, clients: int, seconds: float) -> LoadResult:
    """Lets clients send requests for some seconds, with bad ones in the second third."""
    address, process = f"{server.rest}/v1/models/{server.name}:predict", server.process
    times: list[float] = []
    failed: list[str] = []
    wrong: list[str] = []
    memory = [process.memory_info().rss]
    ready, bad = bodies(min(clients, 64)), bad_requests()
    # Each client has its own connection; the SSL context is shared because it is slow to create.
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

    async def send_bad_requests() -> None:
        await asyncio.sleep(seconds / 3)
        while time.monotonic() < end - seconds / 3:
            for name, (body, status) in bad.items():
                try:
                    async with httpx.AsyncClient(**options) as http:
                        answer = await http.post(address, content=body)
                    if answer.status_code != status:
                        wrong.append(f"{name}: {answer.status_code}, expected {status}")
                except httpx.TransportError as error:
                    # A server may close the connection instead of reading a large body.
                    if status != 413:
                        wrong.append(f"{name}: {type(error).__name__}")

    async def stop_in_the_header() -> None:
        """Sends part of a request's header and waits."""
        host, port = address.split("/")[2].split(":")
        await asyncio.sleep(seconds / 3)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/models/x:predict HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        await asyncio.wait_for(reader.read(), 60 + seconds)
        writer.close()

    async def send_bad_grpc_requests() -> None:
        picture = png_bytes(np.zeros((64, 64, 3), np.uint8))
        messages = bad_grpc_requests.messages(server.name, picture)
        await asyncio.sleep(seconds / 3)
        while time.monotonic() < end - seconds / 3:
            wrong.extend(
                await asyncio.to_thread(bad_grpc_requests.wrong_statuses, server.grpc, messages)
            )

    async def open_silent_grpc_calls() -> None:
        await asyncio.sleep(seconds / 3)
        wrong.extend(
            await asyncio.to_thread(bad_grpc_requests.silent_calls, server.grpc, _SILENT_GRPC_CALLS)
        )

    async def sample_memory() -> None:
        for _ in range(_MEMORY_SAMPLES):
            await asyncio.sleep(seconds / _MEMORY_SAMPLES)
            memory.append(process.memory_info().rss)

    tasks = [client(number) for number in range(clients)]
    tasks += [send_bad_requests(), send_bad_grpc_requests(), open_silent_grpc_calls()]
    tasks += [sample_memory(), *(stop_in_the_header() for _ in range(5))]
    await asyncio.gather(*tasks)
    return LoadResult(times, failed, wrong, memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--export_dir", default="", help="folder of an exported model; empty for an untrained one"
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if not 1 <= options.clients <= MAX_CLIENTS or not 1 <= options.seconds <= MAX_SECONDS:
        parser.error(f"expected --clients <= {MAX_CLIENTS} and --seconds <= {MAX_SECONDS}")
    print(f"load average   {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with exported(options.export_dir) as folder, running(folder) as server:
        process = server.process
        # The allocator keeps memory of the first requests, which is not a leak.
        asyncio.run(load(server, options.clients, max(1.0, options.seconds / 6)))
        busy = sum(process.cpu_times()[:2])
        started = time.monotonic()
        result = asyncio.run(load(server, options.clients, options.seconds))
        took = time.monotonic() - started
        busy = sum(process.cpu_times()[:2]) - busy
    times, failed, wrong, memory = result
    median, p99 = np.percentile(times, [50, 99]) * 1000
    sizes = ", ".join(f"{size / 2**20:.0f}" for size in memory)
    print(f"clients        {options.clients}, for {options.seconds:g} s")
    print(f"requests       {len(times)}, {len(times) / took:.1f} per second")
    print(f"errors         {len(failed)}" + "".join(f"\n  {text}" for text in failed[:5]))
    print(f"wrong statuses {len(wrong)}" + "".join(f"\n  {text}" for text in wrong[:5]))
    print(f"p50, p99       {median:.0f} ms, {p99:.0f} ms")
    print(f"server's CPU   {busy / len(times) * 1000:.0f} ms per request, bad ones included")
    print(f"server memory  {sizes} MiB, before and every {options.seconds / _MEMORY_SAMPLES:g} s")
    return 1 if failed or wrong else 0


def _body(content: bytes) -> bytes:
    row = {"b64": base64.b64encode(content).decode()}
    return json.dumps({"instances": [row]}).encode()


if __name__ == "__main__":
    sys.exit(main())
