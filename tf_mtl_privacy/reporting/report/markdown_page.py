"""A report as Markdown, with its pictures as files beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tf_mtl_privacy.reporting.model_table_text import markdown_table
from tf_mtl_privacy.reporting.report.document import Block, Report

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
