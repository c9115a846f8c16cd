"""Reports on finished runs.

`python -m tf_mtl_privacy.report --run_dir=RUN` writes one as HTML and Markdown;
`python -m tf_mtl_privacy.report --table --runs=FOLDER` prints the table of models.
"""

from __future__ import annotations

import json
from pathlib import Path

from tf_mtl_privacy import cli
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.card_text import privacy_card_text
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.reporting.model_table import model_table
from tf_mtl_privacy.reporting.model_table_rows import model_table_markdown, model_table_text
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.run_folder import read_run
from tf_mtl_privacy.reporting.tables import file_lines
from tf_mtl_privacy.reporting.write import write_report

PAGE = "report.html"


def main(parsed: Parsed) -> int:
    """Writes the report of a run, or prints the table of models."""
    if parsed.options.table:
        return _table(parsed)
    if given := {"runs", "seeds", "format"} & parsed.explicit:
        raise UsageError(f"--{min(given)}: it is for --table; leave it out or add --table")
    options = parsed.options
    if "run_dir" not in parsed.explicit and not Path(options.run_dir).exists():
        raise UsageError("report: expected --run_dir=RUN, or --table and --runs=FOLDER")
    run = read_run(options.run_dir)
    report = build_report(run, [read_run(name, "compare") for name in options.others])
    page = Path(options.output) if options.output else run.folder / PAGE
    private_dir(page.parent)
    written = write_report(report, page)
    show(privacy_card_text(privacy_card(run.results, run.audit, run.quoted)))
    show("\n".join(file_lines(written)))
    return cli.OK


def _table(parsed: Parsed) -> int:
    options = parsed.options
    table = model_table(options.runs, options.seeds)
    if options.format == "json":
        show(json.dumps(table, indent=2, allow_nan=False))
    else:
        show((model_table_markdown if options.format == "markdown" else model_table_text)(table))
    return cli.OK


if __name__ == "__main__":
    cli.run("report", main)
