"""Starts and stops the check server: both interfaces over one service, in threads.

HTTP connections that end where a client does not send its header, or take its answer, in time.

uvicorn bounds the time between two requests of a connection, and neither of these.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.serving.server.app import build_app
from tf_mtl_privacy.serving.server.grpc_service import start_grpc
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.model import replay
from tf_mtl_privacy.serving.server.service import Metrics, Service
from tf_mtl_privacy.serving.server.versions import Poller, Versions


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.Config(http=..)`.

    Args:
        seconds: time that a client has for a request's header, and to take what was written.
    """

    class Impatient(H11Protocol):
        _alarm: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_header()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._alarm, self._stuck):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stuck = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stuck is not None:
                self._stuck.cancel()
                self._stuck = None

        def _wait_for_header(self) -> None:
            """Sets the alarm while a header is missing; it is not put off by single bytes."""
            if self.conn.their_state is not h11.IDLE:
                if self._alarm is not None:
                    self._alarm.cancel()
                    self._alarm = None
            elif self._alarm is None:
                self._alarm = self.loop.call_later(seconds, self._end)

        def _end(self) -> None:
            self._alarm = None
            if self.conn.their_state is h11.IDLE:
                self.transport.abort()

    return Impatient


_STOP_SECONDS = 10.0
# Longer than clients and proxies keep a connection: who closes first must not be the server, or a
# request that is on its way then is lost.
_KEEP_ALIVE_SECONDS = 75


class CheckServer:
    """A running server; use as a context manager, or call `stop`.

    Args:
        export_dir: the model's folder, with a folder for each version.
        name: the model's name.
        host: address to bind to.
        port: port of HTTP; 0 for a free one, as for gRPC.
        grpc_port: port of gRPC.
        limits: what one client may take.
        poll_seconds: how often a newer version is looked for.
        tell: called with a line when a version was loaded or could not be.

    Attributes:
        port: port of HTTP.
        grpc_port: port of gRPC.
        service: what answers.

    Raises:
        UsageError: there is no version in the folder.
        RunError: the model cannot be loaded, or a port is taken.
    """

    def __init__(
        self,
        export_dir: Path,
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        grpc_port: int = 0,
        limits: Limits | None = None,
        poll_seconds: float = 5.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        limits = limits or Limits()
        # Bound first: a taken port is told before the model is loaded.
        bound = _listen(host, port)
        try:
            versions = Versions(export_dir, name, replay, tell)
            self.service = Service(versions, limits, Metrics())
            self._grpc, self.grpc_port = start_grpc(self.service, host, grpc_port)
        except BaseException:
            bound.close()
            raise
        self.host, self.port = host, bound.getsockname()[1]
        app, self._rest = build_app(self.service, host)
        self._http = uvicorn.Server(_config(app, limits))
        self._thread = threading.Thread(
            target=self._http.run, kwargs={"sockets": [bound]}, name="http", daemon=True
        )
        self._thread.start()
        self._poller = Poller(versions.look, poll_seconds, tell)
        self._wait_for_start()

    def __enter__(self) -> CheckServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of HTTP."""
        return f"http://{_bracketed(self.host)}:{self.port}"

    @property
    def grpc_address(self) -> str:
        """Address of gRPC, as `host:port`."""
        return f"{_bracketed(self.host)}:{self.grpc_port}"

    def wait(self) -> None:
        """Returns when HTTP has ended, which it does not by itself."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Answers what was accepted, takes nothing new, and ends."""
        self._poller.close()
        stopped = self._grpc.stop(_STOP_SECONDS)
        self._http.should_exit = True
        self._thread.join()
        stopped.wait(_STOP_SECONDS)
        self.service.close()
        self._rest.close()

    def _wait_for_start(self) -> None:
        while not self._http.started:
            if not self._thread.is_alive():
                raise RunError(f"HTTP could not be started on {self.url}")
            time.sleep(0.01)


def _config(app: Any, limits: Limits) -> uvicorn.Config:
    # Its lines hold stack traces and clients' addresses.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=impatient(limits.client_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(_STOP_SECONDS),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise RunError(
            f"--host={host} --port={port}: cannot listen there: {error.strerror or error}"
        ) from error
    return listening


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
