"""Command `serve`: serves an exported model on machines without TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from tf_mtl_privacy.cli.options import CommonOptions, Parsed
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK, RunError, UsageError, install_command
from tf_mtl_privacy.tf_loading import load_tensorflow

if TYPE_CHECKING:
    from tf_mtl_privacy.serving.server.limits import Limits
    from tf_mtl_privacy.serving.server.running import CheckServer

_DEFAULT_NAME = "faces"


@dataclasses.dataclass(frozen=True)
class ServeOptions(CommonOptions):
    """Options of `serve`."""

    export_dir: str = option(
        "", "The exported model's folder of numbered versions; the newest version is served."
    )
    model_name: str = option(
        "", "Name of the model in addresses; empty means the name that it was exported with."
    )
    host: str = option(
        "127.0.0.1",
        "Address to bind to. The server has no encryption and no passwords: to serve other "
        "machines, put it behind a proxy that has both.",
    )
    port: int = option(8501, "Port of the REST API and the demo page; 0 means a free one.", low=0)
    grpc_port: int = option(8500, "Port of gRPC; 0 means a free one.", low=0)
    max_request_bytes: int = option(
        32 * 2**20, "Maximum size of a request, in bytes.", low=2**20, high=2**30
    )
    max_request_rows: int = option(256, "Maximum number of pictures in a request.", low=1)
    max_queued_requests: int = option(
        512, "Maximum number of waiting requests; more are refused.", low=1
    )
    max_batch_size: int = option(
        32, "Maximum number of pictures in a batch that merges waiting requests.", low=1
    )
    batch_timeout_ms: float = option(
        2.0, "Milliseconds that a request waits for others to fill a batch.", low=0, high=1000
    )
    client_seconds: float = option(
        20.0,
        "Time limit for a client to send its request and, over HTTP, to read the answer.",
        above=0,
    )
    answer_seconds: float = option(60.0, "Time limit for a request to get its answer.", above=0)
    poll_seconds: float = option(5.0, "Seconds between checks for a newer version.", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.export_dir.strip():
            raise UsageError(
                f"--export_dir={self.export_dir}: expected a folder, as written by export"
            )
        for name in ("port", "grpc_port"):
            if getattr(self, name) > 65535:
                raise UsageError(f"--{name}={getattr(self, name)}: expected a port, <= 65535")
        if self.port and self.port == self.grpc_port:
            raise UsageError(f"--grpc_port={self.grpc_port}: expected a port other than --port")

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        return "no server was started"


def main(parsed: Parsed) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    from tf_mtl_privacy.export.version_folder import no_version, versions
    from tf_mtl_privacy.reporting.formats import show

    options: ServeOptions = parsed.options
    folder = Path(options.export_dir)
    if not folder.is_dir():
        raise UsageError(f"--export_dir={folder}: no such folder")
    if not versions(folder):
        raise UsageError(no_version(folder))
    _require_packages()
    load_tensorflow()
    from tf_mtl_privacy.serving.server.running import CheckServer

    with CheckServer(
        folder,
        options.model_name or _exported_name(folder),
        host=options.host,
        port=options.port,
        grpc_port=options.grpc_port,
        limits=_limits(options),
        poll_seconds=options.poll_seconds,
        report=show,
    ) as server:
        show(_addresses(server))
        try:
            server.wait()
        except KeyboardInterrupt:
            show("Stopping")
    return OK


def _require_packages() -> None:
    for name in ("fastapi", "uvicorn", "grpc", "prometheus_client"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise RunError(
                f"the package {name} is missing: {install_command('serving')}"
            ) from error


def _exported_name(folder: Path) -> str:
    """Returns the name that the newest version was exported with."""
    from tf_mtl_privacy.export.version_folder import versions
    from tf_mtl_privacy.files import read_json
    from tf_mtl_privacy.serving_signature import EXTRA_FOLDER, LABELS_FILE

    for version in reversed(versions(folder)):
        path = folder / str(version) / EXTRA_FOLDER / LABELS_FILE
        if path.exists():
            return str(read_json(path).get("name") or _DEFAULT_NAME)
    return _DEFAULT_NAME


def _limits(options: ServeOptions) -> Limits:
    from tf_mtl_privacy.serving.server.limits import Limits

    return Limits(
        max_request_bytes=options.max_request_bytes,
        max_bytes_in_flight=max(Limits.max_bytes_in_flight, options.max_request_bytes),
        max_request_rows=options.max_request_rows,
        max_queued_requests=options.max_queued_requests,
        max_batch_size=options.max_batch_size,
        batch_timeout_seconds=options.batch_timeout_ms / 1000,
        client_seconds=options.client_seconds,
        answer_seconds=options.answer_seconds,
    )


def _addresses(server: CheckServer) -> str:
    name = server.service.versions.name
    return "\n".join(
        (
            "A stand-in for TensorFlow Serving, without encryption or passwords:",
            f"  page     {server.url}/",
            f"  REST     {server.url}/v1/models/{name}:predict",
            f"  gRPC     {server.grpc_address}",
            f"  metrics  {server.url}/monitoring/prometheus/metrics",
            "Press Ctrl-C to stop.",
        )
    )
