"""What an address of a server may be, and how messages show it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tf_mtl_privacy.errors import UsageError


def without_password(server: str) -> str:
    """An address as messages may show it: without the name and password before the host."""
    # Up to the last @, as a password may hold one that should have been written %40.
    return re.sub(r"//.*@", "//", server)


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
    if good and parts.scheme == "grpc":
        good = port is not None and not parts.path.strip("/") and "@" not in parts.netloc
    if not good:
        shown = without_password(server)
        raise UsageError(f"--server={shown}: expected http://HOST:PORT or grpc://HOST:PORT")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", model_name):
        raise UsageError(f"--model_name={model_name}: expected letters, digits, ., _ and - only")
