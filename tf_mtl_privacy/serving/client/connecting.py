"""From an address to a client."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.serving.client.predictor import Predictor


def connect(server: str, model_name: str, version: int | None = None, **options: Any) -> Predictor:
    """A client for a server; nothing is sent yet.

    Args:
        server: `http://HOST:PORT` (or `https://`) for REST, `grpc://HOST:PORT` for gRPC.
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
            f"the package {error.name} is missing: pip install 'tf_mtl_privacy[serving]'"
        ) from error


def check_server(server: str, model_name: str) -> None:
    """Whether an address and a name can be ones.

    Raises:
        UsageError: they cannot.
    """
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    good = parts.scheme in ("http", "https", "grpc") and parts.hostname and not parts.query
    if not good or (parts.scheme == "grpc" and (port is None or parts.path.strip("/"))):
        raise UsageError(f"--server={server}: expected http://HOST:PORT or grpc://HOST:PORT")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", model_name):
        raise UsageError(f"--model_name={model_name}: expected letters, digits, ., _ and - only")
