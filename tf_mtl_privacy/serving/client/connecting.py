"""Creates the client for a server's address."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tf_mtl_privacy.errors import RunError, install_command
from tf_mtl_privacy.serving.client.predictor import Predictor, check_server


def connect(server: str, model_name: str, version: int | None = None, **options: Any) -> Predictor:
    """Creates a client; nothing is sent yet.

    Args:
        server: `http://HOST:PORT` (or `https://`) for REST, `grpc://HOST:PORT` for gRPC. A REST
            address may contain `NAME:PASSWORD@` before the host, for a proxy with a password.
        model_name: name of the model.
        version: its version; None for the newest.
        options: `seconds` and `retries`, as for `Predictor`.

    Raises:
        UsageError: the address or the name is invalid.
        RunError: a package is missing.
    """
    check_server(server, model_name)
    try:
        if server.startswith("grpc://"):
            from tf_mtl_privacy.serving.client.grpc_client import GrpcPredictor

            return GrpcPredictor(urlsplit(server).netloc, model_name, version, **options)
        from tf_mtl_privacy.serving.client.rest_client import RestPredictor

        return RestPredictor(server, model_name, version, **options)
    except ImportError as error:
        raise RunError(
            f"the package {error.name} is missing: {install_command('serving')}"
        ) from error
