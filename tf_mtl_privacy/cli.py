"""Runs a command: quiet logs, one line per error, and the exit codes.

0 done, 1 failure, 2 the request is wrong, 3 an audit contradicts a claim, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.flags import HelpRequested, Parsed, parse
from tf_mtl_privacy.start_files import keras_home

OK, FAILURE, USAGE, CONTRADICTED, INTERRUPTED = 0, 1, 2, 3, 130
DEBUG_VARIABLE = "TF_MTL_PRIVACY_DEBUG"
# Settings of Keras: what is needed here, then what else Keras takes.
_KERAS: dict[str, tuple[Any, ...]] = {
    "floatx": ("float32", "float16", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
    "epsilon": (1e-7,),
}
Main = Callable[[Parsed], int | None]


def run(verb: str, main: Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    Args:
        verb: the command's name, a key of `verbs.VERBS`.
        main: does the work; its return value is the exit code, None means 0. It (not its module)
            imports TensorFlow, so that help and wrong flags answer at once.
        argv: the arguments without the program's name; those of the process by default.
    """
    code = execute(verb, main, sys.argv[1:] if argv is None else argv)
    sys.exit(_flush(code))


def execute(verb: str, main: Main, argv: Sequence[str]) -> int:
    """As `run`, but returns the exit code."""
    _quiet()
    # Read by hand: an error may come before the flags are known.
    debug = _asks_for_debug(argv) or bool(os.environ.get(DEBUG_VARIABLE))
    # What commands write is about people, also what libraries write for them.
    umask = os.umask(0o077)
    parsed: Parsed | None = None
    try:
        with _TerminateAsInterrupt():
            parsed = parse(verb, argv)
            debug = debug or parsed.options.debug
            _check_backend()
            _set_threads(parsed.options.threads)
            return main(parsed) or OK
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
    """The line after Ctrl-C; what is kept depends on the command and on how far it came."""
    if parsed is None:
        return "interrupted"
    return f"interrupted; {parsed.options.after_interrupt()}"


def _asks_for_debug(argv: Sequence[str]) -> bool:
    return any(
        argument.lstrip("-").lower() in ("debug", "debug=true", "debug=1")
        for argument in argv
        if argument.startswith("-")
    )


def load_tensorflow() -> None:
    """Imports TensorFlow and keeps what its libraries write while they load off the terminal.

    They write straight to the file descriptor, before any log level of theirs is read. If the
    import fails, all of it is shown. Settings of the user's keras.json that would change the
    networks are replaced for this process.

    Raises:
        UsageError: a keras.json that Keras itself refuses.
    """
    settings = _foreign_settings()
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with tempfile.TemporaryFile() as kept:
            os.dup2(kept.fileno(), 2)
            try:
                importlib.import_module("tensorflow")
                if settings:
                    keras = importlib.import_module("keras")
                    for name in settings:
                        getattr(keras.config, f"set_{name}")(_KERAS[name][0])
            except BaseException:
                kept.seek(0)
                os.write(terminal, kept.read())
                raise
            finally:
                os.dup2(terminal, 2)
    finally:
        os.close(terminal)


def _foreign_settings() -> list[str]:
    """Names of the settings in keras.json that are not those that the networks are built for."""
    path = keras_home() / "keras.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Keras does without it as well.
        return []
    different = []
    for name, allowed in _KERAS.items():
        value = found.get(name, allowed[0]) if isinstance(found, dict) else found
        # Of epsilon Keras takes any float.
        if value not in allowed and not (name == "epsilon" and isinstance(value, float)):
            raise UsageError(
                f"{path}: {name}={value!r:.40}: Keras expects one of {allowed}; correct or remove "
                "the file"
            )
        if value != allowed[0]:
            different.append(name)
    return different


def _explain(error: Exception) -> tuple[str, int]:
    """An exception -> its line and the exit code."""
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
    # Where nobody is listening the exit code still says it.
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
    """While inside, SIGTERM does what Ctrl-C does, so that a stopped run leaves a checkpoint."""

    def __enter__(self) -> None:
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
