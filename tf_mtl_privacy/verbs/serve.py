"""Options of `serve`."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.verbs.common import CommonOptions


@dataclasses.dataclass(frozen=True)
class ServeOptions(CommonOptions):
    """Options of `serve`, a stand-in for TensorFlow Serving on machines without it."""

    export_dir: str = option(
        "", "The exported model's folder, with a folder for each version; the newest is served."
    )
    model_name: str = option(
        "", "Name of the model in addresses; empty means the name that it was exported with."
    )
    host: str = option(
        "127.0.0.1",
        "Address to bind to. There is no encryption and no password: beyond this machine only "
        "behind a proxy that has both.",
    )
    port: int = option(8501, "Port of the REST API and the page; 0 means a free one.", low=0)
    grpc_port: int = option(8500, "Port of gRPC; 0 means a free one.", low=0)
    largest_request: int = option(32, "Largest request, in MiB.", low=1, high=1024)
    largest_batch: int = option(256, "Most pictures in a request.", low=1)
    largest_queue: int = option(512, "Requests that may wait; more are refused.", low=1)
    merge_rows: int = option(
        32, "Requests that wait together are run together, up to so many pictures.", low=1
    )
    merge_ms: float = option(
        2.0, "How long a request waits for others, in milliseconds.", low=0, high=1000
    )
    client_seconds: float = option(
        20.0,
        "Time that a client has to send its request and, over HTTP, to take the answer.",
        above=0,
    )
    answer_seconds: float = option(60.0, "Longest time that a request waits.", above=0)
    poll_seconds: float = option(5.0, "How often a newer version is looked for.", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.export_dir.strip():
            raise UsageError(
                f"--export_dir={self.export_dir}: expected a folder (the one that export wrote)"
            )
        for name in ("port", "grpc_port"):
            if getattr(self, name) > 65535:
                raise UsageError(f"--{name}={getattr(self, name)}: expected a port, <= 65535")
        if self.port and self.port == self.grpc_port:
            raise UsageError(f"--grpc_port={self.grpc_port}: expected another one than --port")

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        return "no server was started"
