"""Options of `report`."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.verbs.common import DEFAULT_RUN_DIR, DEFAULT_TABLE_DIR, CommonOptions


@dataclasses.dataclass(frozen=True)
class ReportOptions(CommonOptions):
    """Options of `report`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the finished run to report on.")
    compare: tuple[str, ...] = option(
        (), "Folders of other runs to put beside it, with commas; may be repeated."
    )
    output: str = option(
        "",
        "HTML file to write, with Markdown and pictures beside it; empty means report.html in the "
        "run folder.",
    )
    table: bool = option(
        False, "Print the four models and a fifth side by side, instead of a report on one run."
    )
    runs: str = option(
        DEFAULT_TABLE_DIR, "With --table: folder of the runs, each in <model>-seed<number>."
    )
    seeds: int = option(
        1, "With --table: how many seeds (0, 1, ..) of each model there should be.", low=1
    )
    format: str = option(
        "text", "With --table: what to print.", choices=("text", "markdown", "json")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output and not self.output.endswith(".html"):
            raise UsageError(f"--output={self.output}: expected a name that ends with .html")
        if self.table and (self.compare or self.output):
            name = "compare" if self.compare else "output"
            raise UsageError(f"--{name}: it is for a report on --run_dir; leave out --table")

    @property
    def others(self) -> list[str]:
        """The folders to compare with."""
        names = (name.strip() for given in self.compare for name in given.split(","))
        return [name for name in names if name]
