"""Command `report`: writes the report of a finished run, or prints the table of models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tf_mtl_privacy.cli.options import (
    DEFAULT_RUN_DIR,
    DEFAULT_TABLE_DIR,
    CommonOptions,
    Parsed,
    verbose_option,
)
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK, UsageError
from tf_mtl_privacy.files import private_dir

PAGE = "report.html"


@dataclasses.dataclass(frozen=True)
class ReportOptions(CommonOptions):
    """Options of `report`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the finished run to report on.")
    compare: tuple[str, ...] = option(
        (), "Folders of other runs to compare with, separated by commas; may be repeated."
    )
    output: str = option(
        "",
        "HTML file to write, with Markdown and pictures beside it; empty means report.html in the "
        "run folder.",
    )
    table: bool = option(
        False,
        "Print a table of the four models, and of the model trained with --dp_scope=all, instead "
        "of a report on one run.",
    )
    runs: str = option(
        DEFAULT_TABLE_DIR, "With --table: folder of the runs, each in <model>-seed<number>."
    )
    seeds: int = option(1, "With --table: expected number of seeds (0, 1, ..) per model.", low=1)
    verbose: bool = verbose_option()
    format: str = option(
        "text", "With --table: format to print.", choices=("text", "markdown", "json")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output and not self.output.endswith(".html"):
            raise UsageError(f"--output={self.output}: expected a name that ends with .html")
        if self.table and (self.compare or self.output):
            name = "compare" if self.compare else "output"
            raise UsageError(f"--{name}: is for a report on --run_dir; leave out --table")

    @property
    def others(self) -> list[str]:
        """The folders to compare with."""
        names = (name.strip() for given in self.compare for name in given.split(","))
        return [name for name in names if name]


def main(parsed: Parsed) -> int:
    """Writes the report of a run, or prints the table of models."""
    options: ReportOptions = parsed.options
    if options.table:
        return _table(options)
    if given := {"runs", "seeds", "format"} & parsed.explicit:
        raise UsageError(f"--{min(given)}: is for --table; leave it out or add --table")
    if "run_dir" not in parsed.explicit and not Path(options.run_dir).exists():
        raise UsageError("report: expected --run_dir=RUN, or --table and --runs=FOLDER")
    from tf_mtl_privacy.reporting.build import build_report, write_report
    from tf_mtl_privacy.reporting.document import Paragraph
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.privacy_card import privacy_card
    from tf_mtl_privacy.reporting.render_text import render_text, terminal_width
    from tf_mtl_privacy.reporting.runs import read_run
    from tf_mtl_privacy.reporting.sections.privacy import card_text
    from tf_mtl_privacy.reporting.sections.summary import files_lines

    run = read_run(options.run_dir)
    report = build_report(run, [read_run(name, "compare") for name in options.others])
    page = Path(options.output) if options.output else run.folder / PAGE
    private_dir(page.parent)
    written = write_report(report, page)
    card, width = privacy_card(run.results, run.audit, run.quoted), terminal_width()
    if options.verbose:
        show(card_text(card, width))
    else:
        show(render_text([Paragraph(card["summary"])], width))
    show("\n".join(files_lines(written)))
    return OK


def _table(options: ReportOptions) -> int:
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.model_table import model_table
    from tf_mtl_privacy.reporting.sections.comparison import model_table_markdown, model_table_text

    table = model_table(options.runs, options.seeds)
    if options.format == "json":
        show(json.dumps(table, indent=2, allow_nan=False))
    else:
        show((model_table_markdown if options.format == "markdown" else model_table_text)(table))
    return OK
