"""Runs a command: parses flags, reports an error as one line, and returns the exit code.

Exit codes: 0 done, 1 failure, 2 wrong request, 3 an audit contradicts a claim, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.cli.flags import HelpRequested, parse
from tf_mtl_privacy.cli.help import commands_text
from tf_mtl_privacy.cli.options import Parsed
from tf_mtl_privacy.errors import FAILURE, INTERRUPTED, OK, USAGE, RunError, UsageError

DEBUG_VARIABLE = "TF_MTL_PRIVACY_DEBUG"
Main = Callable[[Parsed], int | None]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `tf-mtl-privacy COMMAND ...` and exits.

    Args:
        argv: command and flags; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in COMMANDS:
        run(name, rest)
    if name in ("--help", "-help", "--helpfull", "-h", "help"):
        sys.exit(_flush(_print_help(commands_text())))
    if name == "--version":
        from tf_mtl_privacy import __version__

        sys.exit(_flush(_print_help(f"tf-mtl-privacy {__version__}\n")))
    close = difflib.get_close_matches(name, list(COMMANDS), n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(COMMANDS)}"
    sys.exit(_report(f"error: {name!r}: unknown command; {hint}", USAGE))


def run(command: str, argv: Sequence[str] | None = None, main: Main | None = None) -> NoReturn:
    """Runs a command and exits with its exit code.

    Args:
        command: a key of `COMMANDS`.
        argv: the arguments without the program's name; those of the process by default.
        main: called instead of the command's own `main`.
    """
    code = execute(command, sys.argv[1:] if argv is None else argv, main)
    sys.exit(_flush(code))


def execute(command: str, argv: Sequence[str], main: Main | None = None) -> int:
    """Runs a command like `run`, and returns the exit code."""
    _quiet()
    # Read by hand: an error may occur before the flags are parsed.
    debug = _asks_for_debug(argv) or bool(os.environ.get(DEBUG_VARIABLE))
    # Files that commands and their libraries write are about people.
    umask = os.umask(0o077)
    parsed: Parsed | None = None
    try:
        with _TerminateAsInterrupt():
            parsed = parse(command, argv)
            debug = debug or parsed.options.debug
            _check_backend()
            _set_threads(parsed.options.threads)
            return (main or COMMANDS[command].main)(parsed) or OK
    except HelpRequested as request:
        return _print_help(str(request))
    except BrokenPipeError:
        _discard_output()
        return FAILURE
    except KeyboardInterrupt:
        return _report(_interrupted(parsed), INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = _explain(error)
        return _report(f"error: {message}", code)
    finally:
        os.umask(umask)


def _interrupted(parsed: Parsed | None) -> str:
    if parsed is None:
        return "interrupted"
    return f"interrupted; {parsed.options.after_interrupt()}"


def _asks_for_debug(argv: Sequence[str]) -> bool:
    return any(
        argument.lstrip("-").lower() in ("debug", "debug=true", "debug=1")
        for argument in argv
        if argument.startswith("-")
    )


def _explain(error: Exception) -> tuple[str, int]:
    """Returns an exception's line and its exit code."""
    text = str(error)
    if isinstance(error, UsageError):
        return text, USAGE
    if isinstance(error, RunError):
        return text, FAILURE
    if isinstance(error, OSError):
        named = f"{error.strerror or text}: {error.filename}" if error.filename else text
        hint = "; free some space and run it again" if error.errno == errno.ENOSPC else ""
        return named + hint, FAILURE
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        reason = f" ({_first_line(text)})" if text else ""
        return f"out of memory or disk space{reason}; try a smaller --batch_size", FAILURE
    known = f"{type(error).__name__}: {_first_line(text)}"
    return f"{known} (this is a bug; --debug or {DEBUG_VARIABLE}=1 shows where)", FAILURE


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:300]


def _report(line: str, code: int) -> int:
    # With nobody reading standard error, the exit code still tells.
    with contextlib.suppress(OSError):
        print(" ".join(line.split("\n")), file=sys.stderr, flush=True)
    return code


def _print_help(text: str) -> int:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        _discard_output()
    return OK


def _flush(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return code or FAILURE
    except OSError as error:
        return _report(f"error: cannot write output: {error.strerror}", code or FAILURE)
    return code


def _discard_output() -> None:
    # Otherwise Python complains at exit that it cannot flush a pipe that nobody reads.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _check_backend() -> None:
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UsageError(
            f"KERAS_BACKEND={backend}: expected tensorflow; unset it or set it to tensorflow"
        )


def _set_threads(threads: int) -> None:
    if threads:
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = str(threads)


class _TerminateAsInterrupt:
    """Makes SIGTERM act like Ctrl-C, so that a stopped run leaves a checkpoint."""

    def __enter__(self) -> None:
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
