"""Fingerprints of data that may be published: SHA-256 digests keyed with a secret.

With a plain hash of pixels and labels, anybody who has all rows but one could check a guess of that
row. A published fingerprint is therefore an HMAC-SHA256 (RFC 2104) of the hash. Its key is stored
beside the prepared stores. The first digits of a hash of the key follow, to tell keys of different
machines apart: `<64 hex digits>.<8 hex digits>`. Synthetic faces show no real person and anybody
can draw them: their digest is published without a key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir

KEY_FILE = "fingerprint.key"
OTHER_KEYS = (
    "the fingerprints of their data (evaluated_on.data_fingerprint) were made with different "
    "secrets; evaluate them with one --cache_dir"
)
_KEY_BYTES, _ID_DIGITS = 32, 8


def fingerprint_key(folder: Path) -> bytes:
    """Reads the secret of a folder of prepared stores (32 bytes); makes it if it is missing.

    Only the owner may read the file; other permissions are removed.

    Raises:
        RunError: it cannot be read or written, or has another length.
    """
    path = folder / KEY_FILE
    if not path.exists():
        _make_key(private_dir(folder), path)
    return _read_key(path)


def keyed(digest: str, key: bytes) -> str:
    """Returns the keyed fingerprint of `digest` (text, not empty)."""
    mac = hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()
    return f"{mac}.{_key_id(key)}"


def published(digest: str, key: bytes | None) -> str:
    """Returns the text to publish for a digest: keyed, or plain without a key (synthetic faces)."""
    return digest if key is None else keyed(digest, key)


def stands_for(recorded: str, digest: str, folders: Iterable[Path]) -> bool | None:
    """Compares a recorded fingerprint with the digest of data at hand.

    Args:
        recorded: a keyed fingerprint, or a plain digest as in older runs.
        digest: digest of the data at hand.
        folders: where to look for keys: `fingerprint.key`, and copies from other machines as
            `fingerprint-<anything>.key`.

    Returns:
        Whether they are of the same data; None if the key of `recorded` is in no folder.
    """
    _, _, key_id = recorded.partition(".")
    if not key_id:
        return recorded == digest
    for path in _key_files(folders):
        key = _read_key(path)
        if _key_id(key) == key_id:
            return hmac.compare_digest(recorded, keyed(digest, key))
    return None


def same_data(texts: Iterable[str]) -> bool | None:
    """Compares published fingerprints with each other; True for one or none.

    Returns:
        False if two of them are of different data; None if this cannot be decided because their
        keys differ or some have none.
    """
    different = set(texts)
    by_key: dict[str, set[str]] = {}
    for text in different:
        by_key.setdefault(text.partition(".")[2], set()).add(text)
    if any(len(group) > 1 for group in by_key.values()):
        return False
    return None if len(by_key) > 1 else True


def unknown_key(recorded: str, folder: Path) -> str:
    """Returns what to do if `stands_for` gives None; `folder` is that of the prepared stores."""
    key_id = recorded.partition(".")[2]
    return (
        f"its fingerprint was made with the secret {key_id} of another machine or --cache_dir, "
        f"which is not in {folder}: copy {KEY_FILE} from the cache folder there to "
        f"{folder / f'fingerprint-{key_id}.key'} and keep it private, or give that --cache_dir; if "
        'it is lost and you know that the data is the same, set "data_fingerprint" in the run\'s '
        'labels.json to ""'
    )


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"id of a fingerprint key" + key).hexdigest()[:_ID_DIGITS]


def _key_files(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in dict.fromkeys(folders):
        with contextlib.suppress(OSError):
            yield from sorted(folder.glob("fingerprint*.key"))


def _make_key(folder: Path, path: Path) -> None:
    temporary = folder / f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace the key of a process that was faster.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_key(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        key = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if len(key) != _KEY_BYTES:
        raise RunError(f"{path} has {len(key)} bytes, not {_KEY_BYTES}: remove or restore it")
    return key
