"""What an address of a server may be, and how messages show it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from tf_mtl_privacy.errors import UsageError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def without_password(server: str) -> str:
    """What was given for an address as messages may show it: without what stands before an @."""
    # Up to the last @, as a password may hold one that should have been written %40; and whatever
    # is wrong with the rest, as it is shown where it is refused.
    return re.sub(r"^([a-z]+:[/\\]*)?.*@", r"\1", server, flags=re.IGNORECASE | re.DOTALL)


def address_and_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address that `check_server` passed -> that without name and password; both, or None."""
    parts = urlsplit(url)
    user, there, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    return address, (unquote(name), unquote(password)) if there else None


def check_server(server: str, model_name: str) -> None:
    """Whether an address and a name can be ones.

    Raises:
        UsageError: they cannot, or a password would go over a network for anybody to read.
    """
    shown = without_password(server)
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not _is_address(server, parts, port):
        raise UsageError(
            f"--server={shown}: expected http://HOST:PORT or grpc://HOST:PORT; for a proxy with a "
            "password https://NAME:PASSWORD@HOST, with %40, %2F, %3F, %23 for @ / ? #"
        )
    if "@" in parts.netloc and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            f"--server={shown}: a password over http can be read on its way; give https://"
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]+", model_name):
        raise UsageError(f"--model_name={model_name}: expected letters, digits, ., _ and - only")


def _is_address(server: str, parts: SplitResult, port: int | None) -> bool:
    # Blanks and control characters are dropped or kept by one library, and not by the next.
    if not parts.hostname or re.search(r"[\s\x00-\x1f\x7f\\?#]", server):
        return False
    if parts.scheme == "grpc":
        return port is not None and not parts.path.strip("/") and "@" not in server
    # What follows the first / is a path; an @ there was to be part of a password.
    return (
        parts.scheme in ("http", "https")
        and "@" not in parts.path
        and "@" not in (parts.netloc.rpartition("@")[0])
    )
