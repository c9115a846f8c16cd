"""Errors that users see as one line, and the exit codes of commands."""

from __future__ import annotations

# Exit codes: done, failed, wrong request, an audit contradicts a privacy claim, interrupted.
OK, FAILURE, USAGE, CONTRADICTED, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(ValueError):
    """The request is wrong: a flag, a value, a folder's layout. Exit code 2."""

    # AutoGraph re-raises exceptions of a traced function as its own StagingError, with a page of
    # text, unless they have this attribute.
    ag_pass_through = True


class RunError(RuntimeError):
    """The request is valid but could not be carried out. Exit code 1."""

    ag_pass_through = True


def install_command(extra: str) -> str:
    """Returns how to install the missing packages of one of setup.py's extras."""
    return f"in the project's folder run pip install '.[{extra}]'"
