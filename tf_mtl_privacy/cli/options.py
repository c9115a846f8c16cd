"""Options that commands share, and the parsed request that each command gets."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_mtl_privacy.config import Config, DataConfig
from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError

DEFAULT_RUN_DIR, DEFAULT_TABLE_DIR = "runs/default", "runs/table"
RERUN = "rerun the same command to start again"
_PROBES = ("none", "fast", "thorough")
_PROBE_HELP = (
    "Effort of the fresh attackers that try to read the private label from what the run releases: "
    "'fast' takes minutes on two cores, 'thorough' is for an audit, 'none' skips them."
)


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """Options of every command."""

    threads: int = option(0, "Threads of TensorFlow's operations; 0 means one per core.", low=0)
    debug: bool = option(False, "Show the traceback of an error.")

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("run_dir", "output", "restored_dir"):
            value = getattr(self, name, None)
            if value is not None and value != value.strip():
                raise UsageError(f"--{name}={value!r}: expected a path without blanks around it")
        if getattr(self, "run_dir", None) == "":
            raise UsageError("--run_dir=: expected a folder")

    def after_interrupt(self) -> str:
        """Returns what was kept and how to resume, for the line shown after Ctrl-C."""
        return RERUN


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A parsed command line.

    Attributes:
        config: the effective configuration. Commands that read a run get the run's own.
        options: the command's own options, as attributes.
        explicit: names of the flags that were given, in flagfiles or on the command line.
        other_data: the data to evaluate on, if it differs from that of `config`.
    """

    config: Config
    options: Any
    explicit: frozenset[str]
    other_data: DataConfig | None = None

    @property
    def data(self) -> DataConfig:
        """The data to work on."""
        return self.other_data or self.config.data


def probe_option(default: str) -> Any:
    """Returns the field of the option `--probe`."""
    return option(default, _PROBE_HELP, choices=_PROBES)


def verbose_option() -> Any:
    """Returns the field of the option `--verbose`."""
    return option(False, "Print the full tables, not only the summary.")


def saves_attackers(probe: str) -> bool:
    """Returns whether finished attackers of this `--probe` are saved for a later call."""
    from tf_mtl_privacy.evaluation.probes.budget import SETTINGS

    return probe in SETTINGS and SETTINGS[probe].kept
