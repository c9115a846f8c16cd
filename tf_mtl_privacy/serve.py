"""Serves an exported model on this machine: `python -m tf_mtl_privacy.serve --export_dir=DIR`.

It stands in for TensorFlow Serving on machines without it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from tf_mtl_privacy import cli
from tf_mtl_privacy.errors import RunError, UsageError, install_command
from tf_mtl_privacy.export.version_folder import no_version, versions
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.serving_signature import EXTRA_FOLDER, LABELS_FILE
from tf_mtl_privacy.verbs.serve import ServeOptions

if TYPE_CHECKING:
    from tf_mtl_privacy.serving.server.limits import Limits
    from tf_mtl_privacy.serving.server.running import CheckServer

_DEFAULT_NAME = "faces"


def main(parsed: Parsed) -> int:
    """Serves until it is told to stop, by Ctrl-C or SIGTERM."""
    options = parsed.options
    folder = Path(options.export_dir)
    if not folder.is_dir():
        raise UsageError(f"--export_dir={folder}: no such folder")
    if not versions(folder):
        raise UsageError(no_version(folder))
    _require_packages()

    # Loaded here: wrong flags must be told before.
    cli.load_tensorflow()
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
        show(_where(server))
        try:
            server.wait()
        except KeyboardInterrupt:
            show("Stopping")
    return cli.OK


def _require_packages() -> None:
    for name in ("fastapi", "uvicorn", "grpc", "prometheus_client"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise RunError(
                f"the package {name} is missing: {install_command('serving')}"
            ) from error


def _exported_name(folder: Path) -> str:
    """The name that the newest version was exported with."""
    for version in reversed(versions(folder)):
        path = folder / str(version) / EXTRA_FOLDER / LABELS_FILE
        if path.exists():
            return str(read_json(path).get("name") or _DEFAULT_NAME)
    return _DEFAULT_NAME


def _limits(options: ServeOptions) -> Limits:
    from tf_mtl_privacy.serving.server.limits import Limits

    return Limits(
        max_request_bytes=options.largest_request * 2**20,
        max_bytes_in_flight=max(256, options.largest_request) * 2**20,
        max_request_rows=options.largest_batch,
        max_queued_requests=options.largest_queue,
        max_batch_size=options.merge_rows,
        batch_timeout_seconds=options.merge_ms / 1000,
        client_seconds=options.client_seconds,
        answer_seconds=options.answer_seconds,
    )


def _where(server: CheckServer) -> str:
    name = server.service.versions.name
    return "\n".join(
        (
            "A stand-in for TensorFlow Serving, without encryption and passwords:",
            f"  page     {server.url}/",
            f"  REST     {server.url}/v1/models/{name}:predict",
            f"  gRPC     {server.grpc_address}",
            f"  metrics  {server.url}/monitoring/prometheus/metrics",
            "Ctrl-C stops it.",
        )
    )


if __name__ == "__main__":
    cli.run("serve", main)
