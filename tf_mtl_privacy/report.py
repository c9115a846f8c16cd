"""Tables of finished runs: `python -m tf_mtl_privacy.report --table --runs=FOLDER`."""

from __future__ import annotations

import json

from tf_mtl_privacy import cli
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.reporting.model_table import model_table
from tf_mtl_privacy.reporting.model_table_text import model_table_markdown, model_table_text
from tf_mtl_privacy.reporting.terminal import show


def main(parsed: Parsed) -> int:
    """Prints the table of models."""
    options = parsed.options
    if not options.table:
        raise UsageError(
            "report: expected --table and --runs=FOLDER, the folder of the runs to compare"
        )
    table = model_table(options.runs, options.seeds)
    if options.format == "json":
        show(json.dumps(table, indent=2, allow_nan=False))
    else:
        show((model_table_markdown if options.format == "markdown" else model_table_text)(table))
    return cli.OK


if __name__ == "__main__":
    cli.run("report", main)
