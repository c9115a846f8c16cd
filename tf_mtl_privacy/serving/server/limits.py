"""How much of everything one client may take, so that none takes the machine."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of the check server; what exceeds one is refused before any work.

    Attributes:
        body_bytes: size of a request.
        bytes_in_flight: size of all requests of HTTP and gRPC that are being read or wait,
            together, and of the pixels that the page decodes. A message of gRPC counts from when it
            has come in whole; before that it is in gRPC's own memory.
        rows: pictures in a request.
        pixels: pixels of all encoded pictures in a request, together.
        queue: requests that wait for the model, and open calls of gRPC.
        connections: open connections of HTTP.
        client_seconds: time that a client has to send a request, and over HTTP to take the answer.
        answer_seconds: time that a request may wait for its answer.
        merge_rows: pictures that requests are merged up to, for one run of the model.
        merge_bytes: size of the inputs that requests are merged up to; merging copies them.
        merge_seconds: how long a request waits for others to be merged with.
    """

    body_bytes: int = 32 * 2**20
    bytes_in_flight: int = 256 * 2**20
    rows: int = 256
    pixels: int = 200_000_000
    queue: int = 512
    connections: int = 1024
    client_seconds: float = 20.0
    answer_seconds: float = 60.0
    merge_rows: int = 32
    merge_bytes: int = 16 * 2**20
    merge_seconds: float = 0.002
