"""The two kinds of failure that a user is told about in one line."""

from __future__ import annotations


class UsageError(ValueError):
    """The request itself is wrong: a flag, a value, a folder's layout. Exit code 2."""

    # AutoGraph re-raises exceptions of a traced function as its own StagingError, with a page of
    # text, unless they have this attribute.
    ag_pass_through = True


class RunError(RuntimeError):
    """The request was right and could not be carried out. Exit code 1."""

    ag_pass_through = True


def install_command(extra: str) -> str:
    """Returns what to do where a package of one of setup.py's extras is missing."""
    return f"in the project's folder run pip install '.[{extra}]'"
