"""HTTP connections that end where a client does not send its header, or take its answer, in time.

uvicorn bounds the time between two requests of a connection, and neither of these.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


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
