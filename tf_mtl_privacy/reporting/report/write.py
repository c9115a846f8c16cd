"""Writes a report: HTML, Markdown, and a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.reporting.report.document import Report
from tf_mtl_privacy.reporting.report.html_page import report_html
from tf_mtl_privacy.reporting.report.markdown_page import report_markdown


def write_report(report: Report, html: Path) -> dict[str, str]:
    """Writes `NAME.html`, and beside it `NAME.md` and the pictures of both in `NAME/`.

    Only the owner may read them: they are about people.

    Args:
        report: the report.
        html: the HTML file to write.

    Returns:
        Path -> what is in it.

    Raises:
        RunError: something cannot be written.
    """
    folder = private_dir(html.with_suffix(""))
    for picture in report.pictures:
        write_atomic(folder / f"{picture.name}.png", picture.png, private=True)
    page = html.with_suffix(".md")
    write_atomic(page, report_markdown(report, folder.name), private=True)
    write_atomic(html, report_html(report), private=True)
    return {
        str(html): "the report; open it in a browser",
        str(page): "the same as Markdown",
        str(folder): "its pictures",
    }
