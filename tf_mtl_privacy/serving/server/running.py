"""The running check server: starts and stops HTTP and gRPC over one service, in threads."""

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
from tf_mtl_privacy.serving.server.model import warm_up
from tf_mtl_privacy.serving.server.service import Metrics, Service
from tf_mtl_privacy.serving.server.versions import Poller, Versions

_STOP_SECONDS = 10.0
# Longer than clients and proxies keep an idle connection: if the server closed first, a request
# already on its way would be lost.
_KEEP_ALIVE_SECONDS = 75


class CheckServer:
    """A running server; use it as a context manager, or call `stop`.

    Args:
        export_dir: the model's folder, with one folder for each version.
        name: the model's name.
        host: address to bind to.
        port: HTTP port; 0 for a free one.
        grpc_port: gRPC port; 0 for a free one.
        limits: bounds on requests; None for the defaults.
        poll_seconds: pause between two checks for a newer version.
        report: called with a line when a version was loaded or could not be loaded.

    Attributes:
        host: address it is bound to.
        port: HTTP port.
        grpc_port: gRPC port.
        service: handles the requests.

    Raises:
        UsageError: the folder has no version.
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
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        limits = limits or Limits()
        # Bound first, so that a taken port is reported before the model is loaded.
        bound = _listen(host, port)
        try:
            versions = Versions(export_dir, name, warm_up, report)
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
        self._poller = Poller(versions.refresh, poll_seconds, report)
        self._wait_for_start()

    def __enter__(self) -> CheckServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """HTTP URL."""
        return f"http://{_bracketed(self.host)}:{self.port}"

    @property
    def grpc_address(self) -> str:
        """gRPC address, as `host:port`."""
        return f"{_bracketed(self.host)}:{self.grpc_port}"

    def wait(self) -> None:
        """Blocks until the HTTP server has stopped."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Answers accepted requests, for at most 10 s, refuses new ones, and ends."""
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
                raise RunError(f"the HTTP server did not start on {self.url}")
            time.sleep(0.01)


def _config(app: Any, limits: Limits) -> uvicorn.Config:
    # Silenced: its lines contain stack traces and clients' addresses.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=protocol_with_timeouts(limits.client_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_connections,
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
            f"--host={host} --port={port}: cannot listen there ({error.strerror or error}); give "
            "another port, or 0 for a free one"
        ) from error
    return listening


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def protocol_with_timeouts(seconds: float) -> type[asyncio.Protocol]:
    """Returns an HTTP protocol that closes connections of slow clients, for `uvicorn.Config`.

    uvicorn itself only limits the time between two requests of a connection.

    Args:
        seconds: time for a client to send a request's header, and to read written bytes.
    """

    class ProtocolWithTimeouts(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_header()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._header_timer, self._write_timer):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _wait_for_header(self) -> None:
            """Starts the timer if a header is missing; single bytes do not restart it."""
            if self.conn.their_state is not h11.IDLE:
                if self._header_timer is not None:
                    self._header_timer.cancel()
                    self._header_timer = None
            elif self._header_timer is None:
                self._header_timer = self.loop.call_later(seconds, self._end)

        def _end(self) -> None:
            self._header_timer = None
            if self.conn.their_state is h11.IDLE:
                self.transport.abort()

    return ProtocolWithTimeouts
