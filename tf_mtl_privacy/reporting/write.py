"""Writes a report: HTML, Markdown, and a folder of pictures.

A report as one HTML file that needs nothing but itself.

A report as Markdown, with its pictures as files beside it.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.reporting.document import Block, Report
from tf_mtl_privacy.reporting.model_table_rows import markdown_table


def report_html(report: Report) -> str:
    """The page: pictures are in it, styles too; it has no script and asks no network."""
    template, style = _template()
    sizes = {picture.name: _size(picture.png) for picture in report.pictures}
    return str(template.render(report=report, style=style, sizes=sizes))


@functools.cache
def _template():  # type: ignore[no-untyped-def]
    """(the template, the style sheet), both out of the package."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_mtl_privacy.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # A unit stays with its number, and 1e-05 whole.
    environment.finalize = lambda value: _together(value) if type(value) is str else value
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, "report.css")
    # Our own file: the only text that goes into the page as it is.
    return environment.get_template("report.html"), markupsafe.Markup(source)


def _together(text: str) -> str:
    spaced = re.sub(r"(?<=\d) (?=(?:%|dB|s|min|h)\b|%)", "\u00a0", text)
    return re.sub(r"(?<=\de-)(?=\d)", "\u2060", spaced)


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, so that the page does not jump while it loads."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


_SPECIAL = "\\`*_{}[]<>#|"


def report_markdown(report: Report, folder: str) -> str:
    """The page.

    Args:
        report: the report.
        folder: where its pictures lie, relative to the page.
    """
    lines = [f"# {_plain(report.title)}", "", _plain(report.subtitle), ""]
    lines += [f"**{_plain(warning)}**\n" for warning in report.warnings]
    header = ["", "", ""]
    lines += markdown_table(
        header, [[*map(_plain, (t.title, t.value, t.note))] for t in report.tiles]
    )
    lines += ["", "## In plain words", "", " ".join(map(_plain, report.summary)), ""]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for block in section.blocks:
            lines += [*_KINDS[block.kind](block, folder), ""]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Text in which nothing is taken for a mark of Markdown or HTML."""
    return "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in text)


def _text(block: Any, folder: str) -> Iterator[str]:
    yield _plain(block.text)


def _notice(block: Any, folder: str) -> Iterator[str]:
    yield f"**{_plain(block.text)}**"


def _items(block: Any, folder: str) -> Iterator[str]:
    if block.heading:
        yield from (f"### {_plain(block.heading)}", "")
    yield from (f"- {_plain(item)}" for item in block.items)


def _missing(block: Any, folder: str) -> Iterator[str]:
    why = f" ({block.why})" if block.why else ""
    yield _plain(f"Not here: {block.what}{why}.") + (" This makes it:" if block.command else "")
    if block.command:
        yield from ("", "```", block.command, "```")


def _table(block: Any, folder: str) -> Iterator[str]:
    yield from (f"**{_plain(block.caption)}**", "")
    rows: Sequence[Sequence[str]] = [[*map(_cell, row.cells)] for row in block.rows]
    yield from markdown_table([*map(_cell, block.header)], rows)
    for note in block.notes:
        yield from ("", _plain(note))


def _cell(text: str) -> str:
    # `markdown_table` escapes bars itself.
    return _plain(text).replace("\\|", "|")


def _picture(block: Any, folder: str) -> Iterator[str]:
    alt = _plain(block.alt)
    yield from (f"![{alt}]({folder}/{block.name}.png)", "", _plain(block.caption))


_KINDS: dict[str, Callable[[Block, str], Iterator[str]]] = {
    "text": _text,
    "notice": _notice,
    "items": _items,
    "missing": _missing,
    "table": _table,
    "picture": _picture,
}


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
