"""Options of `report`."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.verbs.common import DEFAULT_TABLE_DIR, CommonOptions


@dataclasses.dataclass(frozen=True)
class ReportOptions(CommonOptions):
    """Options of `report`."""

    table: bool = option(False, "Print the four models and a fifth side by side.")
    runs: str = option(
        DEFAULT_TABLE_DIR, "With --table: folder of the runs, each in <model>-seed<number>."
    )
    seeds: int = option(
        1, "With --table: how many seeds (0, 1, ..) of each model there should be.", low=1
    )
    format: str = option(
        "text", "With --table: what to print.", choices=("text", "markdown", "json")
    )
