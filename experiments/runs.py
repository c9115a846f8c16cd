"""Resumable training of a list of runs, and the command line handling that experiments share.

Finished runs are skipped, unfinished runs resume, and a failed run does not stop the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from tf_mtl_privacy.cli.flagfiles import expand
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import RESULTS_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.reporting.model_table import train_command
from tf_mtl_privacy.reporting.run_figures import read_results

# Options that name a place and do not change what a run computes.
_PLACES = ("cache_dir",)
INTERRUPTED = 130
Train = Callable[[list[str]], int]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run to train.

    Attributes:
        name: name on the terminal and in tables.
        folder: run folder.
        flags: flags of `train`, without --run_dir and --probe.
        probe: attackers after training: "fast", "thorough" or "none".
    """

    name: str
    folder: Path
    flags: tuple[str, ...]
    probe: str = "fast"

    @property
    def command(self) -> list[str]:
        """Command that trains or resumes the run."""
        return train_command(self.flags, self.folder, self.probe, python=sys.executable)

    def results(self) -> dict[str, Any] | None:
        """Returns results.json, or None if the run is unfinished or its attackers have not run.

        Raises:
            UsageError: the flags are wrong, or the folder has a run of another configuration.
            RunError: the file is damaged.
        """
        wanted = parse("train", list(self.flags)).config.to_dict()
        path = self.folder / RESULTS_FILE
        if not path.exists():
            return None
        results = read_results(path)
        _check_same(self.folder, results["config"], wanted)
        attacked = self.probe == "none" or results["privacy"]["probe"] is not None
        return results if attacked else None


def _check_same(folder: Path, saved: Any, wanted: dict[str, dict[str, Any]]) -> None:
    earlier = Config.from_dict(saved).to_dict()
    for section, options in wanted.items():
        for name, value in options.items():
            before = earlier[section][name]
            if before != value and name not in _PLACES:
                raise UsageError(
                    f"{folder}: holds a run with --{name}={before}, not {value}; remove it, or "
                    "give another --runs"
                )


def train_all(runs: Sequence[Run], train: Train | None = None) -> dict[str, str]:
    """Trains the unfinished runs in order.

    Args:
        runs: runs to train.
        train: trains a run given its command and returns the exit code; by default a new process.

    Returns:
        Name of each failed run -> reason.

    Raises:
        KeyboardInterrupt: a run was interrupted; the same call resumes it.
    """
    failed: dict[str, str] = {}
    for number, run in enumerate(runs, start=1):
        where = f"[{number}/{len(runs)}] {run.name}"
        try:
            if run.results() is not None:
                say(f"{where}: finished")
                continue
            say(f"{where}: {shlex.join(['python', *run.command[1:]])}")
            code = (train or _process)(run.command)
            if code in (INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            if code:
                failed[run.name] = f"train ended with {code}"
            elif run.results() is None:
                failed[run.name] = f"train wrote no {RESULTS_FILE} with figures of fresh attackers"
        except (UsageError, RunError) as error:
            failed[run.name] = str(error)
        if run.name in failed:
            say(f"{where}: FAILED: {failed[run.name]}")
    return failed


def trained(
    runs: Sequence[Run], train: Train | None = None, *, skip: bool = False
) -> dict[str, str] | None:
    """Calls `train_all` unless `skip` is set; returns None if a run was interrupted."""
    if skip:
        return {}
    try:
        return train_all(runs, train)
    except KeyboardInterrupt:
        return None


def _process(command: list[str]) -> int:
    # The table of a single run would hide the table of the experiment on stdout.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl-C also reached the process, which writes a checkpoint and exits.
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def finished(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Returns name -> results.json of the finished runs."""
    found = {}
    for run in runs:
        try:
            results = run.results()
        except (UsageError, RunError):
            results = None
        if results is not None:
            found[run.name] = results
    return found


def split_flags(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Splits arguments at `--`: (arguments of the experiment, flags appended to every run)."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, ()
    cut = arguments.index("--")
    return arguments[:cut], tuple(arguments[cut + 1 :])


def names(
    parser: argparse.ArgumentParser, flag: str, text: str, known: Collection[str]
) -> list[str]:
    """Splits a list of names at commas; the parser exits with 2 if a name is unknown.

    Args:
        parser: parser of the flag.
        flag: name of the flag, without dashes.
        text: value of the flag; empty parts are left out.
        known: valid names, in the order in which the error lists them.
    """
    found = [name for name in text.split(",") if name]
    for name in found:
        if name not in known:
            parser.error(
                f"--{flag}={name}: expected some of {', '.join(known)}, separated by commas"
            )
    if text and not found:
        parser.error(f"--{flag}={text}: expected some of {', '.join(known)}, separated by commas")
    return found


def check_base(parser: argparse.ArgumentParser, base: str) -> None:
    """Exits with 2 if the flagfile `--base` is missing or cannot be read."""
    try:
        expand([f"--flagfile={base}"])
    except UsageError as error:
        parser.error(f"--base={base}: {error}")


def one_line_errors(main: Callable[..., int]) -> Callable[..., int]:
    """Wraps a `main`: prints its errors in one line and returns the exit code of the commands."""

    @functools.wraps(main)
    def call(*arguments: Any, **options: Any) -> int:
        try:
            return main(*arguments, **options)
        except (UsageError, RunError) as error:
            say(f"error: {error}")
            return 2 if isinstance(error, UsageError) else 1

    return call


def exit_code(failed: dict[str, str]) -> int:
    """Prints the failed runs; returns 1 if there are any, else 0."""
    for name, reason in failed.items():
        say(f"not done: {name}: {reason}")
    return 1 if failed else 0


def say(text: str) -> None:
    """Prints progress to stderr; stdout is for tables."""
    print(text, file=sys.stderr, flush=True)
