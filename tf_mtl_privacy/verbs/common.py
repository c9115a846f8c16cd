"""Options of every command, and where runs lie by default."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError

DEFAULT_RUN_DIR, DEFAULT_TABLE_DIR = "runs/default", "runs/table"


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
        """Returns what the same command does after Ctrl-C, for the line that ends this one."""
        return "the same command begins again"
