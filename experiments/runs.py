"""Trains a list of runs one after the other, resumably: what the experiments share.

A finished run is skipped, an unfinished one goes on where it stopped, a failed one does not keep
the others from being trained. Used by model_table.py, ablations.py and frontier.py; how wrong flags
are told of, by the other experiments too.
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

from tf_mtl_privacy.config import RESULTS_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.flagfiles import expand
from tf_mtl_privacy.flags import parse
from tf_mtl_privacy.reporting.model_runs import train_command
from tf_mtl_privacy.reporting.run_figures import read_results

# What says only where things lie, not what a run computes.
_PLACES = ("cache_dir",)
INTERRUPTED = 130
Train = Callable[[list[str]], int]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run to train.

    Attributes:
        name: what it is called on the terminal and in tables.
        folder: its run folder.
        flags: flags of `train`, without --run_dir and --probe.
        probe: "fast" or "thorough" attackers at its end, or "none".
    """

    name: str
    folder: Path
    flags: tuple[str, ...]
    probe: str = "fast"

    @property
    def command(self) -> list[str]:
        """What trains it, or goes on with it."""
        return train_command(self.flags, self.folder, self.probe, python=sys.executable)

    def results(self) -> dict[str, Any] | None:
        """Its results.json; None where it is not finished, or nobody has attacked it yet.

        Raises:
            UsageError: its flags are wrong, or the folder has a run of another configuration.
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
    """Trains what is not finished, in order.

    Args:
        runs: what to train.
        train: trains one run by its command and returns the exit code; a process by default.

    Returns:
        Name of each failed run -> why.

    Raises:
        KeyboardInterrupt: one of them was interrupted; the same call goes on.
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
                failed[run.name] = f"train left no {RESULTS_FILE} with fresh attackers' figures"
        except (UsageError, RunError) as error:
            failed[run.name] = str(error)
        if run.name in failed:
            say(f"{where}: FAILED: {failed[run.name]}")
    return failed


def trained(
    runs: Sequence[Run], train: Train | None = None, *, skip: bool = False
) -> dict[str, str] | None:
    """As `train_all`; nothing where `skip` is set, None where it was interrupted."""
    if skip:
        return {}
    try:
        return train_all(runs, train)
    except KeyboardInterrupt:
        return None


def _process(command: list[str]) -> int:
    # The run's own table is for its reader, not for the end of a list of runs.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl-C has reached it too: it writes a checkpoint and ends by itself.
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def finished(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Name -> results.json of the runs that are finished; others are left out."""
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
    """(own arguments, those after `--`: flags that every run gets last)."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, ()
    cut = arguments.index("--")
    return arguments[:cut], tuple(arguments[cut + 1 :])


def names(
    parser: argparse.ArgumentParser, flag: str, text: str, known: Collection[str]
) -> list[str]:
    """The names in a list with commas, each of which must be known: else the parser exits with 2.

    Args:
        parser: of the flag.
        flag: without dashes.
        text: what was given; empty parts are left out.
        known: the names that there are, in the order in which they are told.
    """
    found = [name for name in text.split(",") if name]
    for name in found:
        if name not in known:
            parser.error(f"--{flag}={name}: expected some of {', '.join(known)}, by commas")
    if text and not found:
        parser.error(f"--{flag}={text}: expected some of {', '.join(known)}, by commas")
    return found


def check_base(parser: argparse.ArgumentParser, base: str) -> None:
    """Exits with 2 where the flagfile `--base` is not there or cannot be read."""
    try:
        expand([f"--flagfile={base}"])
    except UsageError as error:
        parser.error(f"--base={base}: {error}")


def told(main: Callable[..., int]) -> Callable[..., int]:
    """An experiment's `main` whose errors are one line, with the exit codes of the commands."""

    @functools.wraps(main)
    def call(*arguments: Any, **options: Any) -> int:
        try:
            return main(*arguments, **options)
        except (UsageError, RunError) as error:
            say(f"error: {error}")
            return 2 if isinstance(error, UsageError) else 1

    return call


def exit_code(failed: dict[str, str]) -> int:
    """Names what failed; 1 if anything did."""
    for name, reason in failed.items():
        say(f"not done: {name}: {reason}")
    return 1 if failed else 0


def say(text: str) -> None:
    """Prints progress to stderr, so that stdout has the tables only."""
    print(text, file=sys.stderr, flush=True)
