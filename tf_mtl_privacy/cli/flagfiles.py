"""Finds flagfiles and puts their lines in the place of `--flagfile`.

absl opens flagfiles, nested ones too, only as given against the working folder; here they are
also looked for beside the including file and among the shipped configurations.
"""

from __future__ import annotations

import difflib
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tf_mtl_privacy.errors import UsageError


class Argument(NamedTuple):
    """One argument and where it stands: `''` for the command line, else `file:line`."""

    text: str
    origin: str = ""


def shipped() -> dict[str, Path]:
    """Name -> path of the configurations that come with the package."""
    try:
        folders = [Path(str(importlib.resources.files("tf_mtl_privacy.configs").joinpath(".")))]
    except (ImportError, TypeError, OSError):
        folders = []
    # In a checkout that was not installed the folder is beside the package.
    folders.append(Path(__file__).resolve().parents[2] / "configs")
    for folder in folders:
        found = {path.name: path for path in sorted(folder.glob("*.cfg"))}
        if found:
            return found
    return {}


def expand(argv: Sequence[str]) -> list[Argument]:
    """Replaces every `--flagfile=X` and `--flagfile X` by the lines of X, recursively, in place.

    X is tried as given (against the working folder), then beside the including file, then among
    the shipped configurations. Blank lines and lines that start with `#` or `//` are skipped.
    Nothing is replaced after `--`.

    Raises:
        UsageError: X is missing, unreadable or includes itself, or a line is not a flag.
    """
    return _expand([Argument(text) for text in argv], folder=None, chain=())


def _expand(
    arguments: list[Argument], folder: Path | None, chain: tuple[Path, ...]
) -> list[Argument]:
    expanded: list[Argument] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.text == "--":
            return [*expanded, argument, *rest]
        name, equals, value = argument.text.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
            continue
        if not equals:
            value = next(rest, Argument("")).text
        path = _find(value, folder, argument.origin)
        if path in chain:
            names = " -> ".join(link.name for link in (*chain[chain.index(path) :], path))
            raise UsageError(f"--flagfile={value}: flagfiles include each other: {names}")
        expanded += _expand(_read(path, value), path.parent, (*chain, path))
    return expanded


def _find(name: str, folder: Path | None, origin: str) -> Path:
    place = f" (in {origin})" if origin else ""
    if not name:
        raise UsageError(f"--flagfile={place}: expected the name of a file")
    path = Path(os.path.expanduser(name))
    configs = shipped()
    candidates = [path, *([folder / path] if folder else [])]
    if name in configs:
        candidates.append(configs[name])
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    close = difflib.get_close_matches(path.name, list(configs), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"--flagfile={name}{place}: no such file; {hint}shipped ones are " + ", ".join(configs)
    )


def _read(path: Path, name: str) -> list[Argument]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UsageError(f"--flagfile={name}: cannot be read: {reason}") from error
    arguments: list[Argument] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith(("#", "//")):
            continue
        origin = f"{path.name}:{number}"
        if not line.startswith("-") or line == "--":
            raise UsageError(f"{origin}: {line!r} is not a flag; expected --name=value")
        # `--name value` on one line is two arguments; a value after `=` may hold blanks.
        flag, _, value = line.partition(" ")
        parts = [flag, value.strip()] if value and "=" not in flag else [line]
        arguments += [Argument(part, origin) for part in parts]
    return arguments
