"""From an address to a client."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tf_mtl_privacy.errors import RunError, install_command
from tf_mtl_privacy.serving.client.predictor import Predictor, check_server


def connect(server: str, model_name: str, version: int | None = None, **options: Any) -> Predictor:
    """A client for a server; nothing is sent yet.

    Args:
        server: `http://HOST:PORT` (or `https://`) for REST, `grpc://HOST:PORT` for gRPC. For REST
            `NAME:PASSWORD@` may stand before the host, for a proxy that asks for them.
        model_name: the model.
        version: its version; None for the newest.
        options: `seconds` and `retries`, as for `Predictor`.

    Raises:
        UsageError: not such an address or name.
        RunError: a package is missing.
    """
    check_server(server, model_name)
    try:
        if server.startswith("grpc://"):
            from tf_mtl_privacy.serving.client.by_grpc import GrpcPredictor

            return GrpcPredictor(urlsplit(server).netloc, model_name, version, **options)
        from tf_mtl_privacy.serving.client.by_rest import RestPredictor

        return RestPredictor(server, model_name, version, **options)
    except ImportError as error:
        raise RunError(
            f"the package {error.name} is missing: {install_command('serving')}"
        ) from error
